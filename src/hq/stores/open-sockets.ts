/** The sockets of this process by store: thousands are open, and whoever asks for those of one store must not see them all. */
import type { StoreSocket } from './socket.ts';

export class OpenSockets {
  readonly #byStore = new Map<number, Set<StoreSocket>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(socket: StoreSocket): void {
    const known = this.#byStore.get(socket.storeId) ?? new Set();
    this.#byStore.set(socket.storeId, known.add(socket));
    this.#size += 1;
  }

  delete(socket: StoreSocket): void {
    const known = this.#byStore.get(socket.storeId);
    if (known?.delete(socket) !== true) return;
    this.#size -= 1;
    if (known.size === 0) this.#byStore.delete(socket.storeId);
  }

  /** Oldest first; as they are now, whatever is closed meanwhile. */
  of(storeId: number): readonly StoreSocket[] {
    return [...(this.#byStore.get(storeId) ?? [])];
  }

  all(): readonly StoreSocket[] {
    return [...this.#byStore.values()].flatMap((sockets) => [...sockets]);
  }
}
