/** `possync queue show`: one entry; its rows only when asked for, because they hold tender data. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';

export async function run(context: Context, args: Args): Promise<Answer> {
  const { pool, role } = await context.database();
  const payload = args.flag('payload');
  if (role === 'hq') {
    const seqText = args.maybeAt(1);
    if (seqText === undefined)
      throw new PossyncError('PS-USAGE', 'at HQ an entry has a store and a sequence', {
        hint: 'possync queue show CODE SEQ',
      });
    const { showStore } = await import('../../hq/stores/stores.ts');
    const { showDead } = await import('../../hq/inbox/dead.ts');
    const { deadBody } = await import('../queue/hq.ts');
    const store = await showStore(pool, args.at(0));
    const { body, ...entry } = await showDead(pool, store.id, parseSeq(seqText), payload);
    return answer({ ...deadBody(entry, store.code), ...withRows(body) });
  }
  const { showEntry } = await import('../../store/outbox/queue.ts');
  const entry = await showEntry(pool, parseSeq(args.maybeAt(1) ?? args.at(0)), { payload });
  const iso = (at: string | null): string | null => (at === null ? null : new Date(at).toISOString());
  return answer({
    epoch: entry.epoch,
    seq: entry.seq,
    type: entry.type,
    key: entry.key,
    records: entry.records,
    rows: entry.rows,
    bytes: entry.bytes,
    priority: entry.high ? 'high' : 'normal',
    by_type: entry.types,
    chain: entry.chain,
    captured_at: iso(entry.capturedAt),
    sealed_at: iso(entry.sealedAt),
    acked_at: iso(entry.ackedAt),
    state: entry.state,
    ...withRows(entry.body),
  });
}

/** Amounts in a body may be larger than a JavaScript number holds exactly, so its text is printed as it is. */
function withRows(body: string | null): { payload?: string } {
  return body === null ? {} : { payload: body };
}

function answer(entry: Record<string, unknown>): Answer {
  return {
    schema: 'possync.queue-entry/1',
    exit: EXIT.ok,
    body: { entry },
    text: () =>
      Object.entries(entry)
        .filter(([, value]) => value !== null)
        .map(
          ([name, value]) =>
            `${name.padEnd(13)} ${typeof value === 'string' ? value : JSON.stringify(value)}\n`,
        )
        .join(''),
  };
}

export function parseSeq(text: string): number {
  const seq = Number(text.replace(/^#/, ''));
  if (!Number.isSafeInteger(seq) || seq < 1) throw new PossyncError('PS-USAGE', `'${text}' is no sequence`);
  return seq;
}
