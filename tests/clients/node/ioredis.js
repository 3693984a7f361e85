// Runs batches of commands with the class Cluster of ioredis. The arguments are the ports of the seeds, on loopback.
"use strict";

const { Cluster } = require("ioredis");
const { version } = require("ioredis/package.json");
const { run, seeds } = require("./run.js");

// The default of `maxRedirections`, which also bounds how often a command is sent again after its connection broke.
const RETRIES = 16;

// Pipelines of this library must have keys of one node only. What is asked for at once goes out at once without them.
const cluster = new Cluster(seeds.map((port) => ({ host: "127.0.0.1", port })));
// Without a listener the library prints what each command is told as well.
cluster.on("error", () => {});
cluster.once("ready", () => {
  run(`ioredis ${version}`, RETRIES, ([name, ...words]) => cluster[name.toLowerCase()](...words));
});
