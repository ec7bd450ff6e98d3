/** What a store says first in a session: who it is, and where it stands in both directions. */
import { SOFTWARE } from '../core/version.ts';
import type { Hello, Instance } from '../protocol/messages.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../protocol/version.ts';
import type { Mirror } from './mirror/mirror.ts';
import type { Outbox } from './outbox/outbox.ts';

export async function helloFrame(
  outbox: Outbox,
  mirror: Mirror,
  instance: Instance,
  code: string,
): Promise<Hello> {
  const [part, { pos, nonce, paged }] = await Promise.all([outbox.helloPart(), mirror.state()]);
  return {
    type: 'hello',
    v: PROTOCOL_VERSION,
    store: code,
    instance,
    ...part,
    in: { pos, nonce, paged },
    bodyVersion: BODY_VERSION,
    software: SOFTWARE,
  };
}
