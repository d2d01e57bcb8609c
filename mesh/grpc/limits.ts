/** The bounds that both ends of a gRPC connection of ours keep to, set by hand because the library's defaults are others. */

/** The largest message either way. */
export const maxMessageBytes = 4 * 1024 * 1024;

/**
 * How long a connection may be silent before it is asked for a sign of life. Longer than any grace of closing: a ping on a connection
 * that drains would end the calls still under way on it.
 */
export const keepaliveMs = 20_000;

/** How long the sign of life may take before the connection is taken for dead. */
export const keepaliveTimeoutMs = 5_000;
