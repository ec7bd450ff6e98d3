/** A store as commands show it. */
import type { Store } from '../hq/stores/stores.ts';

/** The status of a store; `offline` is active, but without a successful sync for 15 minutes. */
export type StoreWord = Store['status'] | 'offline';

/** The words of the domain, as people read them. */
export const STATUS_WORDS: Readonly<Record<StoreWord, string>> = {
  pending_provisioning: 'Pending Provisioning',
  active: 'Active',
  offline: 'Offline',
  deactivated: 'Deactivated',
};

export interface StoreBody {
  readonly id: number;
  readonly code: string;
  readonly name: string;
  readonly address: string | null;
  readonly phone: string | null;
  readonly time_zone: string;
  readonly status: StoreWord;
  readonly activated_at: string | null;
}

/** `word` is the status with the link in view; without it a provisioned store counts as active. */
export function storeBody(store: Store, word: StoreWord = store.status): StoreBody {
  const { id, code, name, address, phone, timeZone, activatedAt } = store;
  return {
    id,
    code,
    name,
    address,
    phone,
    time_zone: timeZone,
    status: word,
    activated_at: activatedAt === null ? null : new Date(activatedAt).toISOString(),
  };
}
