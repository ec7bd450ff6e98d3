/** After the last fault: everything must flow, and then both sides must be equal, row by row, and whole. */
import { setTimeout as pause } from 'node:timers/promises';
import { compareStore, type TableComparison } from '../../src/db/compare.ts';
import { idOf, readFacts } from './facts.ts';
import {
  readBrokenSteps,
  readCauseless,
  readDead,
  readDoubled,
  readDrafts,
  readHalves,
  readHead,
  readStore,
} from './readings.ts';
import { lastLines } from './programs.ts';
import type { Site, World } from './world.ts';

export interface Tally {
  /** Facts of the tills that HQ has. */
  atHq: number;
  /** Committed, and taken along by the disks that held them. */
  gone: number;
  /** Rows that differ because a disk has forgotten one side of them. */
  explained: number;
  rowsCompared: number;
}

const SETTLE_MS = 180_000;

/** Waits for `drained` and `caught-up` of every store, as a person would; false: it never came. */
export async function settle(world: World): Promise<boolean> {
  const giveUp = performance.now() + SETTLE_MS;
  let all = true;
  for (const site of world.sites) {
    for (const what of ['drained', 'caught-up', 'green']) {
      let last = '';
      for (;;) {
        const { code, stderr, stdout } = await world.command(site, [
          'status',
          '--wait',
          what,
          '--timeout',
          '5s',
        ]);
        if (code === 0) break;
        last = lastLines(stderr === '' ? stdout : stderr);
        if (performance.now() > giveUp) {
          world.violate('settle', `${site.code} is not ${what}: ${last}`);
          all = false;
          break;
        }
        await pause(200);
      }
    }
  }
  return all;
}

/** What waits at HQ for its parent is tried every minute; a person need not wait for that. */
export async function retryParked(world: World): Promise<void> {
  for (const site of world.sites) {
    const dead = await readDead(world.hq.pool);
    if (dead.some(({ store_id }) => store_id === site.id))
      await world.command('HQ', ['queue', 'retry', site.code]);
  }
}

export async function check(world: World): Promise<Tally> {
  const tally: Tally = { atHq: 0, gone: 0, explained: 0, rowsCompared: 0 };
  const rewritten = world.oracle.rewritten();
  for (const site of world.sites) {
    await checkFacts(world, site, tally);
    const drafts = await readDrafts(site.machine.pool);
    for (const table of await compareStore(world.hq.pool, site.machine.pool, site.id))
      checkTable(world, site, table, { rewritten, drafts }, tally);
    for (const half of await readHalves(site.machine.pool))
      world.violate('half-visible', `${site.code} at the end: ${half.what} ${half.which} ${half.seen}`);
    await checkPosition(world, site);
  }
  for (const what of await readDoubled(world.hq.pool)) world.violate('doubled', what);
  for (const what of await readBrokenSteps(world.hq.pool)) world.violate('order', `inbox of ${what}`);
  for (const { id, what } of await readCauseless(world.hq.pool))
    if (!rewritten.has(id)) world.violate('order', what);
  for (const dead of await readDead(world.hq.pool)) {
    const known = [...rewritten].some((id) => dead.body.includes(id));
    if (known) tally.explained += 1;
    else world.violate('dead', `store ${dead.store_id} entry ${dead.seq} (${dead.kind}): ${dead.error}`);
  }
  return tally;
}

/** The witness against HQ: each committed transaction once, with its content, and nothing that nobody wrote. */
async function checkFacts(world: World, site: Site, tally: Tally): Promise<void> {
  const parked = (await readDead(world.hq.pool)).filter(({ store_id }) => store_id === site.id);
  const rewritten = world.oracle.rewritten();
  // What a restored store has taken back, such as a transfer that it shipped, contradicts what others did with it: that
  // is at HQ and shown there, as a dead letter.
  const contradicted = (id: string): boolean =>
    rewritten.has(id) && parked.some(({ body }) => body.includes(id));
  const atHq = await readFacts(world.hq.pool, site.id);
  const own = await readFacts(site.machine.pool, site.id);
  for (const fact of atHq.doubled) world.violate('doubled', `${site.code}: ${fact}`);
  for (const entry of world.oracle.entries) {
    if (entry.store !== site.code) continue;
    // Whether a broken COMMIT took place, the store's own database tells.
    const committed = entry.state === 'committed' || (entry.inStore && own.content.has(entry.fact));
    const content = atHq.content.get(entry.fact);
    if (content !== undefined) {
      tally.atHq += 1;
      if (entry.state === 'failed') world.violate('invented', `${site.code}: ${entry.fact} was rolled back`);
      else if (content !== entry.content)
        world.violate(
          'changed',
          `${site.code}: ${entry.fact} is ${content}, the till wrote ${entry.content}`,
        );
    } else if (committed && entry.gone !== undefined) tally.gone += 1;
    else if (committed && contradicted(idOf(entry.fact))) tally.explained += 1;
    else if (committed) world.violate('lost', `${site.code}: ${entry.fact} (${entry.state})`);
  }
  for (const fact of atHq.content.keys())
    if (world.oracle.of(fact) === undefined)
      world.violate('invented', `${site.code}: ${fact}, no till wrote it`);
}

function checkTable(
  world: World,
  site: Site,
  table: TableComparison,
  { rewritten, drafts }: { rewritten: ReadonlySet<string>; drafts: ReadonlySet<string> },
  tally: Tally,
): void {
  tally.rowsCompared += table.rowsStore;
  const judge = (keys: readonly string[], kind: string, how: string): void => {
    for (const key of keys) {
      const ids = JSON.parse(key) as string[];
      if (ids.some((id) => drafts.has(id))) continue;
      if (table.direction === 'up' && ids.some((id) => rewritten.has(id))) tally.explained += 1;
      else world.violate(kind, `${site.code} ${table.table} ${key} ${how}`);
    }
  };
  judge(table.differing, 'unequal', 'differs');
  judge(table.missingAtHq, table.direction === 'up' ? 'lost' : 'unequal', 'is not at HQ');
  // Transfers that no longer travel, and rows that a restored store has forgotten.
  judge(table.missingAtStore, 'unequal', 'is not in the store');
}

/** Invariant 17 at rest: the same number and the same chain on both sides. */
async function checkPosition(world: World, site: Site): Promise<void> {
  const own = await readStore(site.machine.pool);
  const inbox = (await readHead(world.hq.pool)).inboxes.find(({ store_id }) => store_id === site.id);
  const mine = `${own.epoch}/${own.sealed} acked ${own.ackedEpoch}/${own.acked} ${own.chain}`;
  const theirs = `${inbox?.epoch ?? 0}/${inbox?.seq ?? 0} acked ${inbox?.epoch ?? 0}/${inbox?.seq ?? 0} ${inbox?.chain ?? ''}`;
  if (mine !== theirs) world.violate('position', `${site.code} ${mine}, HQ ${theirs}`);
}
