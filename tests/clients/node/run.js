// What the programs of both libraries share: they read batches and write replies, one line each.
// tests/tests/processes/cluster_clients/client.rs describes these lines.
"use strict";

const readline = require("node:readline");

const told = (promise) =>
  promise.then(
    (ok) => ({ ok: ok ?? null }),
    (error) => ({ error: `${error.constructor.name}: ${error.message}` }),
  );

// `name` is the library, `retries` how often it sends a command again by itself, and `call` runs one command.
async function run(name, retries, call) {
  console.log(JSON.stringify({ client: name, retries }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { pipeline, commands } = JSON.parse(line);
    let replies = [];
    if (pipeline) {
      // Both libraries send what is asked for at once, and do not wait for a reply in between.
      replies = await Promise.all(commands.map((command) => told(call(command))));
    } else {
      for (const command of commands) {
        replies.push(await told(call(command)));
      }
    }
    console.log(JSON.stringify(replies));
  }
  process.exit(0);
}

module.exports = { run, seeds: process.argv.slice(2).map(Number) };
