// session_node_redis.mjs PORT PROTOCOL: a session through node-redis. Ends with "ok".
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createClient, RESP_TYPES } from "redis";

const version = JSON.parse(readFileSync(new URL("./node_modules/redis/package.json", import.meta.url))).version;
const r = createClient({ socket: { port: Number(process.argv[2]), host: "127.0.0.1" }, RESP: Number(process.argv[3]) });
r.on("error", (e) => { console.error(e); process.exit(1); });
await r.connect();

assert.equal(await r.ping(), "PONG");
await r.flushAll();
assert.equal(await r.set("k", "v", { expiration: { type: "EX", value: 1000 }, condition: "NX" }), "OK");
assert.equal(await r.set("k", "w", { condition: "NX" }), null);
assert.equal(await r.get("k"), "v");
const asBytes = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
const bytes = Buffer.from([...Array(256).keys()]);
await r.set("bytes", bytes);
assert.deepEqual(Buffer.from(await asBytes.get("bytes")), bytes);
assert.deepEqual(await r.mGet(["k", "none"]), ["v", null]);

assert.equal(await r.hSet("h", { f1: "v1", f2: "2" }), 2);
assert.deepEqual({ ...(await r.hGetAll("h")) }, { f1: "v1", f2: "2" });
assert.equal(await r.zAdd("z", [{ score: 1, value: "one" }, { score: 2.5, value: "two" }]), 2);
assert.deepEqual(await r.zRangeWithScores("z", 0, -1), [{ value: "one", score: 1 }, { value: "two", score: 2.5 }]);
assert.equal(await r.zScore("z", "two"), 2.5);

const replies = await Promise.all([...Array(1000).keys()].map((i) => r.set("p:" + i, String(i))));
assert.ok(replies.every((reply) => reply === "OK"));
const seen = new Set();
for await (const page of r.scanIterator({ MATCH: "p:*", COUNT: 100 })) for (const k of [].concat(page)) seen.add(k);
assert.equal(seen.size, 1000);

await r.sendCommand(["VADD", "vs", "VALUES", "3", "1", "0", "0", "x"]);
await r.sendCommand(["VADD", "vs", "VALUES", "3", "1", "1", "0", "xy", "SETATTR", '{"year":1999}']);
assert.deepEqual(await r.sendCommand(["VSIM", "vs", "ELE", "x"]), ["x", "xy"]);
if (r.vSim) {
    assert.deepEqual(await r.vSim("vs", "x", { FILTER: ".year > 1990" }), ["xy"]);
    assert.equal(await r.vDim("vs"), 3);
    assert.deepEqual(Object.keys(await r.vSimWithScores("vs", "x")), ["x", "xy"]);
}
await assert.rejects(r.get("h"), /WRONGTYPE/);
assert.match(await r.info("server"), /kith_version/);
await r.flushAll();
await (r.close ? r.close() : r.quit());
console.log("node-redis " + version + " RESP" + process.argv[3] + " ok");
