/** A fleet of simulated stores in one process beside HQ, as a bench holds it. */
import { execFileSync } from 'node:child_process';
import type pg from 'pg';
import { queryOne, withConnection } from '../../../src/db/transaction.ts';
import { sealInTurn } from '../../../src/hq/feed/seal.ts';
import { readHqId } from '../../../src/hq/identity.ts';
import type { BenchHq } from '../chain.ts';
import { Child } from './child.ts';
import type { Cursor, FleetCommands } from './commands.ts';
import { enrolFleet } from './identity.ts';

/** A socket and a connection for requests each, and what a process has open anyway. */
const FILES_PER_STORE = 2;
const FILES_BESIDE = 200;

export interface Fleet {
  readonly process: Child<FleetCommands>;
  readonly stores: number;
}

export interface FleetOptions {
  /** So many more are enrolled and never connect. */
  readonly away?: number;
  /** Where each store that is to rotate keeps its credential. */
  readonly dir?: string;
}

/**
 * Enrols so many stores with an HQ that does not serve yet, starts it and the process that plays them. They stand at
 * HQ's head: the first download (each store's row, in each store) is P6's, and 5,000 of them took 2 GB of this process.
 */
export async function openFleet(
  hq: BenchHq,
  stores: number,
  { away = 0, dir }: FleetOptions = {},
): Promise<Fleet> {
  const needed = stores * FILES_PER_STORE + FILES_BESIDE;
  if (openFilesLimit() < needed)
    throw new Error(
      `${stores} stores need ${needed} open files in one process; ulimit -n says ${openFilesLimit()}`,
    );
  const identities = (await enrolFleet(hq.pool, stores + away)).slice(0, stores);
  await hq.start();
  const cursor = await readHead(hq.pool);
  const child = await Child.start<FleetCommands>('process.ts');
  await child.ask('open', {
    hq: { url: hq.address, id: await readHqId(hq.pool) },
    stores: identities,
    cursor,
    ...(dir === undefined ? {} : { dir }),
  });
  return { process: child, stores };
}

async function readHead(pool: pg.Pool): Promise<Cursor> {
  await withConnection(pool, sealInTurn);
  return await queryOne<Cursor & pg.QueryResultRow>(
    pool,
    'select h.pos, r.nonce::text as nonce from possync.head h join possync.rounds r on r.head = h.pos',
  );
}

/** Of processes that this one starts: Node raises its own soft limit to the hard one, as its children do. */
export function openFilesLimit(): number {
  const text = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
  return text === 'unlimited' ? Infinity : Number(text);
}
