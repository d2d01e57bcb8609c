/** The one call path between services. A service makes a generated client over a transport, or implements a generated interface; which process runs the other side only the composition root knows. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";

/**
 * Duties of every mesh, checked by one suite over all of them:
 * messages of a stream arrive in order, each once, or the stream fails; a sender waits while the receiver does not read;
 * a deadline or an abort at the caller ends the call on both sides; errors keep their code, message and metadata.
 */
export interface Mesh {
  /** Makes an implementation callable. Once for each service, before the first call. */
  serve<S extends DescService>(service: S, implementation: ServiceImpl<S>): void;
  /** For generated clients of the service. */
  transport(service: DescService): Transport;
  /** Ends what is under way with UNAVAILABLE. */
  close(): Promise<void>;
}
