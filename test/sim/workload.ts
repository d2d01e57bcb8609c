/** What people do in a run: a plan made from the seed beforehand, carried out whatever is done to the servers meanwhile. */
import type { ParleyClient, SendTarget } from "../../client/index.ts";
import type { Random } from "../../mesh/random.ts";
import type { SimDevice, Way } from "./device.ts";
import type { World } from "./world.ts";

export interface People {
  readonly users: readonly string[];
  /** Devices of each user, by name. */
  readonly devices: ReadonlyMap<string, readonly string[]>;
  readonly groups: number;
  /** Members of a group who are on nobody's list: they never connect. */
  readonly silentMembers: number;
  /** How often several messages at once are sent, of all that is done. */
  readonly bursts?: number;
  /** How devices get their messages, by "user/device"; those that are not named have a WebSocket. */
  readonly ways?: ReadonlyMap<string, Way>;
  /** What each message has at least. */
  readonly textBytes?: number;
}

export interface Pace {
  readonly operations: number;
  readonly fromMs: number;
  readonly toMs: number;
}

const names = ["ann", "bob", "cy", "dee", "eve", "fay", "gus", "hal"];
const deviceNames = ["phone", "desk", "pad"];

export function peopleOf(random: Random, users: number): People {
  const chosen = names.slice(0, users);
  const devices = new Map(
    chosen.map((userId) => [userId, deviceNames.slice(0, 1 + Math.floor(random.unit() * 3))]),
  );
  // Above 16 members cursors are gathered, above 256 nobody is told of them.
  const size = random.unit();
  const silentMembers = size < 0.8 ? 0 : size < 0.97 ? 18 : 260;
  return { users: chosen, devices, groups: 1 + Math.floor(random.unit() * 2), silentMembers };
}

export class Workload {
  /** Everybody who was ever a member, of each conversation, by what its log may say. */
  readonly conversations = new Map<string, Set<string>>();
  /** Those who are members from the first record to the last. */
  readonly members = new Map<string, readonly string[]>();
  /** Reads and writes that somebody who must not was let do. */
  readonly trespasses: string[] = [];
  /** Users whose data are erased, or are to be. */
  readonly goers = new Set<string>();
  readonly #world: World;
  readonly #random: Random;
  readonly #people: People;

  constructor(world: World, people: People) {
    this.#world = world;
    this.#people = people;
    this.#random = world.chance("workload");
  }

  /** Devices connect, and each watches those whom its user talks with. */
  begin(): void {
    const { users, devices, groups, silentMembers, textBytes = 0 } = this.#people;
    for (const userId of users) {
      for (const deviceId of devices.get(userId) ?? []) {
        const way = this.#people.ways?.get(`${userId}/${deviceId}`);
        const device = this.#world.device(userId, deviceId, way);
        device.textBytes = textBytes;
        if (this.#isTold(way)) device.watches = users.filter((other) => other !== userId);
        this.#world.timeline.in(this.#random.unit() * 500, () => device.connect());
        this.#reads(device);
      }
    }
    for (const [at, one] of users.entries())
      for (const other of users.slice(at + 1)) this.#direct(one, other);
    for (let group = 0; group < groups; group += 1) this.#found(group, silentMembers);
  }

  /** Whether it is told of presence: a device that polls is told when it asks, and no more. */
  #isTold(way: Way = "websocket"): boolean {
    return way === "websocket" || way === "connect";
  }

  /** The plan's operations, from now on. */
  plan({ operations, fromMs, toMs }: Pace): void {
    for (let n = 0; n < operations; n += 1) {
      const atMs = fromMs + this.#random.unit() * (toMs - fromMs);
      const chances = [1, 2, 3, 4].map(() => this.#random.unit());
      this.#world.timeline.at(atMs, () => this.#act(chances));
    }
  }

  /** Who may be erased: those who found no group and need not stay in any. */
  get erasable(): string | undefined {
    const [, , third] = this.#people.users;
    return third;
  }

  /** From now on nothing is promised to them, and nobody can write to them. */
  erasing(userId: string): void {
    this.goers.add(userId);
    for (const [id, userIds] of this.members)
      this.members.set(
        id,
        userIds.filter((one) => one !== userId),
      );
  }

  /** One message into every conversation. */
  probe(): void {
    for (const [id, userIds] of this.members) {
      if (id.startsWith("d:") && userIds.length < 2) continue;
      const writer = this.#world.devices.find(
        (one) => !one.life.ended && userIds.includes(one.userId),
      );
      if (writer !== undefined) this.#send(writer, id);
    }
  }

  #direct(one: string, other: string): void {
    const [first = "", second = ""] = [one, other].toSorted();
    const id = `d:${first}:${second}`;
    this.conversations.set(id, new Set([first, second]));
    this.members.set(id, [first, second]);
  }

  /** A group whose founder and one other never leave; the last user is no member at first. */
  #found(group: number, silentMembers: number): void {
    const { users } = this.#people;
    const founder = users[group % users.length] ?? "";
    const invited = users.filter((userId) => userId !== founder).slice(0, -1);
    const silent = Array.from({ length: silentMembers }, (_, at) => `silent${at}`);
    const device = this.#world.devices.find(({ userId }) => userId === founder);
    device?.asks(`the group ${group}`, async (client) => {
      const { id } = await client.createGroup(`group ${group}`, [...invited, ...silent]);
      this.conversations.set(id, new Set([founder, ...invited]));
      this.members.set(id, [founder, ...invited.slice(0, 1)]);
    });
  }

  /** Its user reads, a while after something came. */
  #reads(device: SimDevice): void {
    const chance = this.#world.chance(`reads ${device.name}`);
    device.onRecord = (conversationId, seq) => {
      if (chance.unit() < 0.4) return;
      this.#world.timeline.in(chance.unit() * 3_000, () =>
        device.does((client) => client.markRead(conversationId, seq)),
      );
    };
  }

  #act([what = 0, who = 0, where = 0, how = 0]: readonly number[]): void {
    const { devices } = this.#world;
    const device = devices[Math.floor(who * devices.length)];
    if (device === undefined) return;
    const mine = [...this.conversations].filter(([, all]) => all.has(device.userId));
    const id = mine[Math.floor(where * mine.length)]?.[0];
    if (id === undefined) return;
    if (what < 0.8 - (this.#people.bursts ?? 0.08)) this.#send(device, id);
    else if (what < 0.8) this.#burst(device, id, 2 + Math.floor(how * 8));
    else if (what < 0.88) this.#change(device, how);
    else if (what < 0.9) device.asks("members", (client) => client.listMembers(id));
    else if (what < 0.92) device.asks("history", (client) => client.history(id));
    else if (what < 0.93) device.asks("a sync", (client) => client.sync());
    else if (what < 0.94) device.does((client) => client.setTyping(id));
    else this.#trespass(device, how);
  }

  /** How its device writes to the conversation. */
  target(device: SimDevice, id: string): SendTarget {
    const [, first = "", second = ""] = id.split(":");
    if (!id.startsWith("d:")) return { conversation: id };
    return { user: first === device.userId ? second : first };
  }

  #send(device: SimDevice, id: string): void {
    device.send(this.target(device, id), id);
  }

  #burst(device: SimDevice, id: string, count: number): void {
    for (let n = 0; n < count; n += 1) this.#send(device, id);
  }

  /** Somebody comes into a group or goes, but for those who stay for ever. */
  #change(device: SimDevice, how: number): void {
    const groups = [...this.members.keys()].filter((id) => id.startsWith("g:"));
    const id = groups[Math.floor(how * groups.length)];
    if (id === undefined) return;
    const others = this.#people.users.filter(
      (userId) => this.members.get(id)?.includes(userId) === false,
    );
    const whom = others[Math.floor(this.#random.unit() * others.length)];
    if (whom === undefined) return;
    const add = this.#random.unit() < 0.6;
    if (add) this.conversations.get(id)?.add(whom);
    device.asks(`${whom} ${add ? "into" : "out of"} ${id}`, (client) =>
      client.updateGroup(id, add ? { add: [whom] } : { remove: [whom] }),
    );
  }

  /** Somebody tries at a conversation that is not theirs. */
  #trespass(device: SimDevice, how: number): void {
    const others = [...this.conversations].filter(
      ([id, all]) => id.startsWith("d:") && !all.has(device.userId),
    );
    const id = others[Math.floor(how * others.length)]?.[0];
    if (id === undefined) return;
    const ways: ((client: ParleyClient) => Promise<unknown>)[] = [
      (client) => client.history(id),
      (client) => client.listMembers(id),
      (client) => client.send({ conversation: id }, `${device.userId} trespasses`).sent,
      (client) => client.updateGroup(id, { add: [device.userId] }),
    ];
    const way = Math.floor(this.#random.unit() * ways.length);
    const tried = ways[way];
    if (tried === undefined) return;
    device.asks(`what is not theirs, ${way}, in ${id}`, async (client) => {
      await tried(client);
      this.trespasses.push(`${device.name} was let do ${way} in ${id}`);
    });
  }
}
