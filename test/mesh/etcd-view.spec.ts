/** What was heard of etcd's keys never goes back. The rest of etcd's directory is tested on real etcd. */
import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Event_EventType, EventSchema, KeyValueSchema } from "../../proto/gen/etcd/kv_pb.ts";
import type { Event, KeyValue } from "../../proto/gen/etcd/kv_pb.ts";
import { bytes, instanceToValue, Keys } from "../../mesh/etcd/keys.ts";
import { View } from "../../mesh/etcd/view.ts";
import { createLog } from "../../mesh/log.ts";
import { ShardTable } from "../../mesh/shards.ts";
import { instance } from "../conformance/directory.ts";

describe("a view of etcd's keys", () => {
  const keys = new Keys("/parley");
  const [a, b] = [instance({ id: "a/%", name: "n" }), instance({ id: "b" })];
  let shards: ShardTable;
  let view: View;
  let seen: string[][];

  beforeEach(() => {
    shards = new ShardTable(4);
    view = new View(keys, shards, createLog({ level: "silent" }));
    seen = [];
    const list = view.tables.of("delivery");
    list.watch(() => seen.push(list.present.map(({ id }) => id)));
  });

  const at = (modRevision: bigint, of = a): KeyValue =>
    create(KeyValueSchema, { key: keys.instance(of), value: instanceToValue(of), modRevision });
  const owned = (modRevision: bigint, incarnation: string): KeyValue =>
    create(KeyValueSchema, { key: keys.shard(3), value: bytes(incarnation), modRevision });
  const put = (kv: KeyValue): Event => create(EventSchema, { type: Event_EventType.PUT, kv });
  const gone = (modRevision: bigint, of = a): Event =>
    create(EventSchema, {
      type: Event_EventType.DELETE,
      kv: { key: keys.instance(of), modRevision },
    });

  it("tells of what changed, and not of what is heard again", () => {
    view.list([at(3n)], 5n);
    view.list([at(3n)], 6n);
    assert.deepEqual(view.tables.of("delivery").present, [a]);
    view.hear([put(at(7n, b))]);
    view.hear([put(at(7n, b)), gone(8n)]);
    view.list([at(7n, b)], 9n);
    assert.deepEqual(seen, [["a/%"], ["a/%", "b"], ["b"]]);
    assert.equal(view.revision, 9n);
  });

  it("heeds nothing that is older than what it heard", () => {
    view.list([at(3n)], 5n);
    view.hear([gone(4n), put(at(5n, b))]);
    assert.deepEqual(seen, [["a/%"]]);
    view.hear([], 8n);
    view.hear([gone(8n)], 6n);
    assert.equal(view.revision, 8n);
    assert.deepEqual(seen, [["a/%"]]);
    assert.throws(() => view.list([], 7n), /set back or made anew/);
    assert.deepEqual(seen, [["a/%"]]);
  });

  it("finds out from a list what it did not hear, of shards too", () => {
    view.list([at(3n), owned(4n, "one")], 5n);
    view.list([at(7n, b), owned(8n, "two")], 9n);
    assert.deepEqual(seen, [["a/%"], ["b"]]);
    assert.deepEqual(shards.owner(3), { incarnation: "two", epoch: 8n });
    assert.equal(view.has(a), false);
    assert.equal(view.has(b), true);
  });
});
