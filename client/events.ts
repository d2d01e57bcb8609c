/** Typed events: listeners by name. */

export class Events<Map extends object> {
  readonly #listeners = new Set<{
    name: keyof Map;
    hear: (name: keyof Map, event: Map[keyof Map]) => void;
  }>();

  /** Calls `listener` at every such event until the returned function is called. */
  on<Name extends keyof Map>(name: Name, listener: (event: Map[Name]) => void): () => void {
    const entry = {
      name,
      hear: (heard: keyof Map, event: Map[keyof Map]): void => {
        if (isNamed<Map, Name>(heard, name, event)) listener(event);
      },
    };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /** A listener that throws is the app's fault: it is thrown where the platform reports it, and nobody else is harmed. */
  emit<Name extends keyof Map>(name: Name, event: Map[Name]): void {
    for (const { hear } of this.#listeners) {
      try {
        hear(name, event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

function isNamed<Map extends object, Name extends keyof Map>(
  heard: keyof Map,
  name: Name,
  event: Map[keyof Map],
): event is Map[Name] {
  return heard === name && event !== undefined;
}
