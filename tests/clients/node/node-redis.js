// Runs batches of commands with the cluster client of node-redis. The arguments are the ports of the seeds, on
// loopback.
"use strict";

const { createCluster } = require("@redis/client");
const { version } = require("@redis/client/package.json");
const { run, seeds } = require("./run.js");

// The default of `maxCommandRedirections`.
const RETRIES = 16;

async function main() {
  const cluster = createCluster({
    rootNodes: seeds.map((port) => ({ url: `redis://127.0.0.1:${port}` })),
  });
  // Without a listener an error of a connection ends the program.
  cluster.on("error", () => {});
  await cluster.connect();
  await run(`node-redis ${version}`, RETRIES, ([name, ...words]) => cluster[name.toLowerCase()](...words));
}

main();
