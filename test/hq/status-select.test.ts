/** Which stores a list shows and in which order: the rule behind `status` at HQ, its API and the dashboard. */
import assert from 'node:assert/strict';
import { matchesCode, ofStores, selectStores } from '../../src/hq/status-select.ts';
import type { HqStatusView, HqStoreView } from '../../src/protocol/status.ts';
import { randomFor } from '../support/random.ts';

const NOW = Date.parse('2026-11-22T12:00:00Z');
const ago = (minutes: number): string => new Date(NOW - minutes * 60_000).toISOString();

interface Facts {
  readonly status?: HqStoreView['status'];
  readonly red?: boolean;
  readonly since?: number;
  readonly oldest?: number;
  readonly synced?: number;
  readonly parked?: number;
}

function store(code: string, facts: Facts = {}): HqStoreView {
  const { status = 'active', red = false, since = 60, oldest, synced = 0, parked = 0 } = facts;
  return {
    id: 1,
    code,
    name: code,
    status,
    stalled: false,
    connection: {
      indicator: red ? 'red' : 'green',
      state: red ? 'disconnected' : 'connected',
      since: ago(since),
      for_ms: since * 60_000,
      last_frame_at: ago(since),
      rtt_ms: null,
      reason: red ? { code: 'PS-WS-SILENT', message: 'went silent', hint: 'look at its line' } : null,
      diagnosed_at: null,
      attempt: null,
      next_attempt_at: null,
    },
    upstream: {
      queued: oldest === undefined ? 0 : 1,
      parked,
      oldest_at: oldest === undefined ? null : ago(oldest),
      as_of: ago(0),
      halted: null,
    },
    downstream: { cursor: 1, pending: 0 },
    last_sync_at: ago(synced),
    last_sale_at: null,
    errors: parked,
    findings: 0,
    software: null,
    token: null,
    rotation: null,
    today: { business_date: '2026-11-22', sales: 0, revenue: 0, tax: 0, refunds: 0 },
    types: {},
  };
}

function view(...stores: HqStoreView[]): HqStatusView {
  return {
    role: 'hq',
    head: 1,
    database: { state: 'ok', reason: null },
    summary: { stores: stores.length, connected: 0, disconnected: 0, stalled: 0, parked: 0, findings: 0 },
    tls: null,
    alerts: stores.map(({ code }) => ({ code: 'PS-X', message: code, hint: 'do', store: code, at: null })),
    stores,
  };
}

const codes = ({ stores }: HqStatusView): string[] => stores.map(({ code }) => code);

describe('a list of stores', () => {
  const chain = view(
    store('B', { oldest: 1 }),
    store('A', { parked: 1 }),
    store('DEAD', { status: 'deactivated', red: true, oldest: 9_000 }),
    store('NEW', { status: 'pending_provisioning', red: true }),
    store('RED-2', { red: true, since: 30, oldest: 20, synced: 30 }),
    store('RED-1', { red: true, since: 10, oldest: 90, synced: 90, status: 'offline' }),
    store('QUIET', { synced: 45 }),
  );

  it('has red first, the one that waits longest on top, and those that nobody expects last', () => {
    assert.deepEqual(codes(selectStores(chain, {}, NOW)), [
      'RED-1',
      'RED-2',
      'A',
      'B',
      'QUIET',
      'NEW',
      'DEAD',
    ]);
  });

  it('can be in the order of what waits longest, of the last change of the light, and of the codes', () => {
    assert.deepEqual(codes(selectStores(chain, { sort: 'oldest' }, NOW)).slice(0, 4), [
      'DEAD',
      'RED-1',
      'RED-2',
      'B',
    ]);
    assert.deepEqual(codes(selectStores(chain, { sort: 'since' }, NOW)).slice(-2), ['RED-2', 'RED-1']);
    assert.deepEqual(codes(selectStores(chain, { sort: 'store' }, NOW)), [...codes(chain)].sort());
  });

  it('with --red has only stores that ought to be connected and are not', () => {
    assert.deepEqual(codes(selectStores(chain, { red: true }, NOW)), ['RED-1', 'RED-2']);
  });

  it('with --behind has those in which something waits so long, and those that did not sync for so long', () => {
    const behind = (minutes: number): string[] =>
      codes(selectStores(chain, { behindMs: minutes * 60_000 }, NOW));
    assert.deepEqual(behind(40), ['RED-1', 'QUIET']);
    assert.deepEqual(behind(20), ['RED-1', 'RED-2', 'QUIET']);
    assert.deepEqual(behind(91), []);
  });

  it('keeps the sums of all when it is cut, and has those of its own stores when stores are named', () => {
    assert.equal(selectStores(chain, { red: true }, NOW).summary, chain.summary);
    const two = ofStores(chain, ['RED-*']);
    assert.deepEqual(two.summary, {
      stores: 2,
      connected: 0,
      disconnected: 2,
      stalled: 0,
      parked: 0,
      findings: 0,
    });
    assert.deepEqual(
      two.alerts.map(({ store: of }) => of),
      ['RED-2', 'RED-1'],
    );
  });

  it('takes patterns as a shell does, and a hostile one costs no more than another', () => {
    const random = randomFor('patterns');
    for (let n = 0; n < 3_000; n += 1) {
      const letters = (from: readonly string[]): string =>
        Array.from({ length: random.int(7) }, () => random.pick(from)).join('');
      const code = letters(['a', 'b', '-']);
      const pattern = letters(['a', 'b', '-', '*', '?']);
      const rule = new RegExp(`^${pattern.replaceAll('*', '[^]*').replaceAll('?', '[^]')}$`);
      assert.equal(matchesCode(code, pattern), rule.test(code), `${code} like ${pattern}`);
    }
    assert.equal(matchesCode('A*', 'A*'), true);
    assert.equal(matchesCode(`${'a'.repeat(2_000)}b`, '*a'.repeat(50)), false);
  });
});
