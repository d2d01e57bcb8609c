/** Who is reachable where: users, their connections and the gateways that hold them. It must not know about streams or time. */
import { Code, ConnectError } from "@connectrpc/connect";
import { invalid, overloaded } from "../mesh/errors.ts";
import type {
  Attachment,
  Payload,
  Publication,
  Push,
} from "../proto/gen/parley/session/v1/session_pb.ts";
import { Commits } from "./commits.ts";
import type { GatewayLink, Notice, OnlineWatcher } from "./ports.ts";

/** One life of a gateway's stream. */
export interface Gateway {
  readonly id: string;
  readonly bootId: string;
  readonly link: GatewayLink;
  readonly sessions: Map<number, Session>;
  /** The connections of the publication that is being routed; empty between two. */
  collected: number[] | undefined;
  /** False once ended: its stream may still have requests under way. */
  live: boolean;
}

/** That a device is reachable. A link of its user's chain: a user has one session mostly, and then a chain costs nothing. */
export interface Session {
  readonly gateway: Gateway;
  readonly connection: number;
  readonly userId: string;
  readonly deviceId: string;
  /** "gateway id/connection": its name across gateways. */
  readonly origin: string;
  /** Its number alone, for the pushes that go to it only: made once, as most do. */
  readonly alone: number[];
  /** It was attached before, nobody knows when, and announced again. */
  readonly again: boolean;
  /** Its place in the order of all attachments here. */
  readonly place: number;
  /** The user's next older session; those that were announced again are taken as older than the others. */
  older: Session | undefined;
}

export interface RegistryLimits {
  /** Sessions of one user; one more replaces the oldest. */
  readonly userSessionsMax: number;
}

const resync: Payload = {
  $typeName: "parley.session.v1.Payload",
  payload: { case: "resync", value: true },
};

export class Registry {
  readonly commits = new Commits();
  readonly #users = new Map<string, Session>();
  readonly #gateways = new Map<string, Gateway>();
  readonly #origins = new Map<string, Session>();
  readonly #watchers = new Set<OnlineWatcher>();
  readonly #limits: RegistryLimits;
  /** The gateways that the present publication goes to: so many of the first ones. Used again for each, so it is never shortened. */
  readonly #touched: Gateway[] = [];
  #touchedCount = 0;

  constructor(limits: RegistryLimits) {
    this.#limits = limits;
  }

  /** A gateway's stream began. One that it had before ends. */
  open(id: string, bootId: string, link: GatewayLink): Gateway {
    if (id === "" || bootId === "")
      throw invalid("the first request of Attach must name gateway_id and boot_id");
    const before = this.#gateways.get(id);
    const sessions = new Map<number, Session>();
    const gateway: Gateway = { id, bootId, link, sessions, collected: undefined, live: true };
    this.#gateways.set(id, gateway);
    if (before !== undefined)
      this.#cut(before, new ConnectError(`gateway ${id} attached again`, Code.Aborted));
    return gateway;
  }

  /** The gateway's stream ended, and with it its sessions. Doing it again does nothing. */
  end(gateway: Gateway): void {
    gateway.live = false;
    if (this.#gateways.get(gateway.id) === gateway) this.#gateways.delete(gateway.id);
    for (const session of gateway.sessions.values()) this.#forget(session);
    gateway.sessions.clear();
  }

  /** The leases of these lives ended: their gateways are ended. */
  endLives(bootIds: ReadonlySet<string>): void {
    for (const gateway of this.#gateways.values())
      if (bootIds.has(gateway.bootId))
        this.#cut(gateway, new ConnectError("its lease ended: attach again", Code.Aborted));
  }

  /** From now on what is published for the user is pushed to the connection, unless it was replaced before. */
  attach(gateway: Gateway, { connection, userId, deviceId, again }: Attachment): void {
    if (userId === "") throw invalid(`the attachment of connection ${connection} names no user`);
    if (!gateway.live) return;
    const known = gateway.sessions.get(connection);
    if (known?.userId === userId && known.deviceId === deviceId) {
      this.#tell(gateway, { kind: "attached", connection });
      return;
    }
    if (known !== undefined) this.detach(gateway, connection);
    const newest = this.#users.get(userId);
    if (again && this.#isOutdone(newest, deviceId)) {
      this.#tell(gateway, { kind: "replaced", connection });
      return;
    }
    const replaced = again ? undefined : this.#replacedBy(newest, deviceId);
    const own = newest === undefined ? userId : newest.userId;
    const session: Session = {
      gateway,
      connection,
      userId: own,
      deviceId,
      origin: `${gateway.id}/${connection}`,
      alone: [connection],
      again,
      place: this.commits.nextPlace(),
      older: undefined,
    };
    this.#chain(session, newest);
    this.#origins.set(session.origin, session);
    gateway.sessions.set(connection, session);
    this.commits.attached(session);
    if (newest === undefined) this.#changed(own);
    this.#tell(gateway, { kind: "attached", connection });
    if (replaced !== undefined) for (const session of replaced) this.#replace(session);
  }

  /** The connection ended, or none of that number is there. */
  detach(gateway: Gateway, connection: number): void {
    const session = gateway.sessions.get(connection);
    if (session === undefined) return;
    gateway.sessions.delete(connection);
    this.#forget(session);
  }

  /**
   * Pushes the payload to the users' connections: one push for each gateway that has some. This is what every message passes, once
   * for each of its members: nothing is allocated for a user but a place in a list of numbers.
   */
  route({ userIds, exceptOrigin, onlyOrigin, payload, trace }: Publication): void {
    const only = onlyOrigin === "" ? undefined : this.#origins.get(onlyOrigin);
    if (onlyOrigin !== "" && only === undefined) return;
    const except = exceptOrigin === "" ? undefined : this.#origins.get(exceptOrigin);
    // By index, here and below: an iterator and its results for each message would be half of what this costs.
    for (let at = 0; at < userIds.length; at += 1) {
      let session = this.#users.get(userIds[at] ?? "");
      for (; session !== undefined; session = session.older) {
        if (session === except || (only !== undefined && session !== only)) continue;
        const { gateway } = session;
        if (gateway.collected === undefined) {
          gateway.collected = session.alone;
          this.#touched[this.#touchedCount] = gateway;
          this.#touchedCount += 1;
        } else this.#collect(gateway, gateway.collected, session.connection);
      }
    }
    for (; this.#touchedCount > 0; this.#touchedCount -= 1) {
      const gateway = this.#touched[this.#touchedCount - 1];
      if (gateway?.collected === undefined) continue;
      const connections = gateway.collected;
      gateway.collected = undefined;
      const push: Push = { $typeName: "parley.session.v1.Push", connections, payload };
      if (trace !== undefined) push.trace = trace;
      this.#tell(gateway, push);
    }
  }

  /** The session's device may have missed something. */
  resync({ gateway, alone: connections }: Session): void {
    this.#tell(gateway, { $typeName: "parley.session.v1.Push", connections, payload: resync });
  }

  /** Tells the watcher of every change from now on, until the answer is called. */
  watch(watcher: OnlineWatcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  isOnline(userId: string): boolean {
    return this.#users.has(userId);
  }

  onlineUserIds(): string[] {
    return [...this.#users.keys()];
  }

  /** The newest first. */
  sessionsOf(userId: string): Session[] {
    const sessions: Session[] = [];
    let session = this.#users.get(userId);
    for (; session !== undefined; session = session.older) sessions.push(session);
    return sessions;
  }

  /** What it holds; all 0 when everybody is gone. */
  get size(): { gateways: number; users: number; sessions: number; watchers: number } {
    let sessions = 0;
    for (const gateway of this.#gateways.values()) sessions += gateway.sessions.size;
    const gateways = this.#gateways.size;
    return { gateways, users: this.#users.size, sessions, watchers: this.#watchers.size };
  }

  /** Which of a user's sessions go when a new one of the device comes: all of the device, or the oldest where there are too many. */
  #replacedBy(newest: Session | undefined, deviceId: string): Session[] | undefined {
    let replaced: Session[] | undefined;
    let count = 0;
    let oldest: Session | undefined;
    for (let session = newest; session !== undefined; session = session.older) {
      if (deviceId !== "" && session.deviceId === deviceId) (replaced ??= []).push(session);
      count += 1;
      oldest = session;
    }
    if (replaced !== undefined || oldest === undefined) return replaced;
    return count >= this.#limits.userSessionsMax ? [oldest] : undefined;
  }

  /** Whether one that is announced again has no place: its device connected anew since, or its user has too many. */
  #isOutdone(newest: Session | undefined, deviceId: string): boolean {
    let count = 0;
    for (let session = newest; session !== undefined; session = session.older) {
      if (deviceId !== "" && session.deviceId === deviceId && !session.again) return true;
      count += 1;
    }
    return count >= this.#limits.userSessionsMax;
  }

  #chain(session: Session, newest: Session | undefined): void {
    if (newest === undefined || !session.again) {
      session.older = newest;
      this.#users.set(session.userId, session);
      return;
    }
    let oldest = newest;
    while (oldest.older !== undefined) oldest = oldest.older;
    oldest.older = session;
  }

  #replace(session: Session): void {
    const { gateway, connection } = session;
    gateway.sessions.delete(connection);
    this.#forget(session);
    this.#tell(gateway, { kind: "replaced", connection });
  }

  /** The first number may be a session's own list, which nobody may change. */
  #collect(gateway: Gateway, collected: number[], connection: number): void {
    const [first] = collected;
    if (collected.length === 1 && first !== undefined) gateway.collected = [first, connection];
    else collected.push(connection);
  }

  #forget(session: Session): void {
    if (this.#origins.get(session.origin) === session) this.#origins.delete(session.origin);
    this.#unchain(session);
  }

  #unchain(session: Session): void {
    const newest = this.#users.get(session.userId);
    if (newest === session) {
      if (session.older === undefined) {
        this.#users.delete(session.userId);
        this.#changed(session.userId);
      } else this.#users.set(session.userId, session.older);
      return;
    }
    for (let newer = newest; newer !== undefined; newer = newer.older) {
      if (newer.older !== session) continue;
      newer.older = session.older;
      return;
    }
  }

  #changed(userId: string): void {
    for (const watcher of this.#watchers) watcher.changed(userId);
  }

  #tell(gateway: Gateway, told: Push | Notice): void {
    if (gateway.link.tell(told)) return;
    this.#cut(gateway, overloaded(`gateway ${gateway.id} does not keep up: attach again`));
  }

  #cut(gateway: Gateway, error: ConnectError): void {
    this.end(gateway);
    gateway.link.cut(error);
  }
}
