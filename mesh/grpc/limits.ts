/** The bounds that both ends of a gRPC connection of ours keep to, set by hand because the library's defaults are others. */

/** The largest message either way. */
export const maxMessageBytes = 4 * 1024 * 1024;

/** How long a connection is left without being asked for a sign of life: a peer whose host vanished says nothing else. */
export const keepaliveMs = 5_000;

/** How long the sign of life may take before the connection is taken for dead. */
export const keepaliveTimeoutMs = 5_000;

/** How long a connection may take until both sides know one another. */
export const handshakeMs = 3_000;

/** The longest pause between two attempts to connect to an instance. */
export const reconnectMaxMs = 1_000;

/** How long calls wait for an instance to come where there is none. */
export const noInstanceMs = 2_000;
