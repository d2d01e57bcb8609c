/** gRPC's server reflection, in both versions that clients ask for: what is served, and the files that describe it. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescFile, DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  ServerReflection,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
} from "../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflection as ServerReflectionAlpha,
  ServerReflectionRequestSchema as AlphaRequestSchema,
  ServerReflectionResponseSchema as AlphaResponseSchema,
} from "../../proto/gen/grpc/reflection/v1alpha/reflection_pb.ts";
import type { Handlers } from "../handlers.ts";

type Answer = NonNullable<
  MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]
>;

/** Serves the reflection of all that the handlers have and will have, itself included. */
export function addReflection(handlers: Handlers): void {
  const { services } = handlers;
  let catalogue = new Catalogue(services);

  function answer(originalRequest: ServerReflectionRequest): ServerReflectionResponse {
    if (catalogue.size !== services.length) catalogue = new Catalogue(services);
    const messageResponse = catalogue.answer(originalRequest);
    const validHost = originalRequest.host;
    return create(ServerReflectionResponseSchema, { validHost, originalRequest, messageResponse });
  }

  handlers.add(ServerReflection, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) yield answer(request);
    },
  });
  // The two versions differ in their names only.
  handlers.add(ServerReflectionAlpha, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const bytes = toBinary(AlphaRequestSchema, request);
        const answered = answer(fromBinary(ServerReflectionRequestSchema, bytes));
        yield fromBinary(AlphaResponseSchema, toBinary(ServerReflectionResponseSchema, answered));
      }
    },
  });
}

/** What some services and all that they use look like. */
class Catalogue {
  readonly size: number;
  readonly #serviceNames: string[];
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();

  constructor(services: readonly DescService[]) {
    this.size = services.length;
    this.#serviceNames = services.map(({ typeName }) => typeName);
    for (const { file } of services) this.#addFile(file);
  }

  answer({ messageRequest: asked }: ServerReflectionRequest): Answer {
    switch (asked.case) {
      case "listServices": {
        const service = this.#serviceNames.map((name) => ({ name }));
        return { case: "listServicesResponse", value: { service } };
      }
      case "fileByFilename":
        return describe(this.#files.get(asked.value), `a file ${asked.value}`);
      case "fileContainingSymbol":
        return describe(this.#symbols.get(asked.value), `a symbol ${asked.value}`);
      case "fileContainingExtension":
        return absent(`an extension of ${asked.value.containingType}`);
      case "allExtensionNumbersOfType":
        return absent(`an extension of ${asked.value}`);
      case undefined:
        return refusal(Code.InvalidArgument, "the request asks for nothing");
    }
  }

  #addFile(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const { name } of service.methods)
        this.#symbols.set(`${service.typeName}.${name}`, file);
    }
    for (const message of file.messages) this.#addMessage(file, message);
    for (const { typeName } of [...file.enums, ...file.extensions])
      this.#symbols.set(typeName, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
  }

  #addMessage(file: DescFile, message: DescMessage): void {
    const { typeName, fields, nestedMessages, nestedEnums, nestedExtensions } = message;
    this.#symbols.set(typeName, file);
    for (const { name } of fields) this.#symbols.set(`${typeName}.${name}`, file);
    for (const nested of [...nestedEnums, ...nestedExtensions])
      this.#symbols.set(nested.typeName, file);
    for (const nested of nestedMessages) this.#addMessage(file, nested);
  }
}

/** The file first, then all that it needs. */
function describe(file: DescFile | undefined, what: string): Answer {
  if (file === undefined) return absent(what);
  const files = new Set<DescFile>();
  const add = (needed: DescFile): void => {
    if (files.has(needed)) return;
    needed.dependencies.forEach(add);
    files.add(needed);
  };
  add(file);
  const fileDescriptorProto = Array.from(files, ({ proto }) =>
    toBinary(FileDescriptorProtoSchema, proto),
  ).reverse();
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

const absent = (what: string): Answer => refusal(Code.NotFound, `nothing served here has ${what}`);

function refusal(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
