// session_ioredis.mjs PORT: a session through ioredis, which speaks RESP2. Ends with "ok".
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import Redis from "ioredis";

const version = JSON.parse(readFileSync(new URL("./node_modules/ioredis/package.json", import.meta.url))).version;
const r = new Redis({ port: Number(process.argv[2]), host: "127.0.0.1", maxRetriesPerRequest: 2 });
r.on("error", (e) => { console.error(e); process.exit(1); });

assert.equal(await r.ping(), "PONG");
await r.flushall();
assert.equal(await r.set("k", "v", "EX", 1000, "NX"), "OK");
assert.equal(await r.set("k", "w", "NX"), null);
assert.equal(await r.get("k"), "v");
const bytes = Buffer.from([...Array(256).keys()]);
await r.set(Buffer.from([0, 255]), bytes);
assert.deepEqual(await r.getBuffer(Buffer.from([0, 255])), bytes);
assert.deepEqual(await r.mget("k", "none"), ["v", null]);

assert.equal(await r.hset("h", { f1: "v1", f2: "2" }), 2);
assert.deepEqual(await r.hgetall("h"), { f1: "v1", f2: "2" });
assert.equal(await r.zadd("z", 1, "one", 2, "two"), 2);
assert.deepEqual(await r.zrange("z", 0, -1, "WITHSCORES"), ["one", "1", "two", "2"]);

const pipeline = r.pipeline();
for (let i = 0; i < 1000; i++) pipeline.set("p:" + i, i);
assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"));
const seen = new Set();
for await (const page of r.scanStream({ match: "p:*", count: 100 })) page.forEach((k) => seen.add(k));
assert.equal(seen.size, 1000);

await r.call("VADD", "vs", "VALUES", 3, 1, 0, 0, "x");
await r.call("VADD", "vs", "VALUES", 3, 1, 1, 0, "xy", "SETATTR", '{"year":1999}');
assert.deepEqual(await r.call("VSIM", "vs", "ELE", "x"), ["x", "xy"]);
assert.deepEqual(await r.call("VSIM", "vs", "ELE", "x", "FILTER", ".year > 1990"), ["xy"]);
await assert.rejects(r.get("h"), /^ReplyError: WRONGTYPE/);
assert.match(await r.info("server"), /kith_version/);
await r.flushall();
await r.quit();
console.log("ioredis " + version + " ok");
