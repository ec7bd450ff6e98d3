/** The runner: dependencies, crashes, limits and the budget, with checks made for the purpose. */
import assert from 'node:assert/strict';
import { fail, pass, PATIENCE_DEFAULT, type Check, type CheckResult } from '../../src/diagnose/check.ts';
import { createMachine } from '../../src/diagnose/machine.ts';
import { runChecks } from '../../src/diagnose/runner.ts';
import { selectChecks } from '../../src/diagnose/select.ts';
import type { Subject } from '../../src/diagnose/subject.ts';
import { systemClock } from '../../src/core/clock.ts';
import { LoopDelay } from '../../src/core/loop-delay.ts';
import { until } from '../support/until.ts';

function check(id: string, more: Partial<Check> = {}): Check {
  return { id, layer: 'dns', title: id, run: () => pass('well'), ...more };
}

async function run(checks: readonly Check[], budgetMs = 5_000): Promise<Map<string, CheckResult>> {
  const seen: string[] = [];
  const results = await runChecks(
    checks,
    // These checks look at nothing.
    { subject: {} as Subject, machine: createMachine(), facts: {}, patience: PATIENCE_DEFAULT, deep: false },
    { budgetMs, observer: ({ id }) => seen.push(id) },
  );
  assert.deepEqual(
    results.map(({ id }) => id),
    checks.map(({ id }) => id),
    'results come in the order of the list',
  );
  assert.deepEqual(seen.sort(), checks.map(({ id }) => id).sort(), 'the observer sees each once');
  return new Map(results.map((result) => [result.id, result]));
}

const never = (): Promise<never> => new Promise(() => undefined);

describe('the runner of checks', () => {
  it('skips what hangs on a failed check and names the first that failed', async () => {
    const results = await run([
      check('a', { run: () => fail('PS-DNS-TIMEOUT', 'no') }),
      check('b', { dependsOn: ['a'] }),
      check('c', { dependsOn: ['b'] }),
      check('d'),
    ]);
    assert.equal(results.get('b')?.skippedBecause, 'a');
    assert.equal(results.get('c')?.skippedBecause, 'a');
    assert.equal(results.get('d')?.status, 'pass');
  });

  it('waits for what it comes after, whatever that finds, and wherever it stands', async () => {
    const order: string[] = [];
    const results = await run([
      check('early', { after: ['late'], run: () => (order.push('early'), pass('well')) }),
      check('late', { run: () => (order.push('late'), fail('PS-DNS-TIMEOUT', 'no')) }),
    ]);
    assert.deepEqual(order, ['late', 'early']);
    assert.equal(results.get('early')?.status, 'pass');
  });

  it('reports a crash as error, never as fail', async () => {
    const results = await run([
      check('a', {
        run: () => {
          throw new TypeError('a bug');
        },
      }),
    ]);
    assert.equal(results.get('a')?.status, 'error');
    assert.match(results.get('a')?.message ?? '', /a bug/);
  });

  it('ends a check at its own limit', async () => {
    const results = await run([check('a', { limitMs: 30, run: never })]);
    assert.equal(results.get('a')?.status, 'error');
  });

  it('ends with the budget, with what is known', async () => {
    const results = await run([check('a'), check('b', { run: never }), check('c', { dependsOn: ['b'] })], 50);
    assert.equal(results.get('a')?.status, 'pass');
    assert.equal(results.get('b')?.skippedBecause, 'the time of the run');
    assert.equal(results.get('c')?.status, 'skip');
  });
});

describe('the selection of checks', () => {
  const all = [
    check('dns.a'),
    check('dns.b', { dependsOn: ['dns.a'] }),
    check('tls.c', { layer: 'tls', dependsOn: ['dns.b'] }),
    check('tls.slow', { layer: 'tls', slow: true }),
    check('ws.deep', { layer: 'ws', deep: true }),
  ];
  const ids = (selection: Partial<Parameters<typeof selectChecks>[1]>): string[] =>
    selectChecks(all, { only: [], skip: [], quick: false, deep: false, ...selection }).checks.map(
      ({ id }) => id,
    );

  it('leaves deep checks out unless asked, and slow ones of a quick run', () => {
    assert.deepEqual(ids({}), ['dns.a', 'dns.b', 'tls.c', 'tls.slow']);
    assert.deepEqual(ids({ quick: true }), ['dns.a', 'dns.b', 'tls.c']);
    assert.ok(ids({ deep: true }).includes('ws.deep'));
    assert.deepEqual(ids({ only: ['ws.deep'] }), ['ws.deep']);
  });

  it('takes layers, ids and globs, with what they depend on', () => {
    assert.deepEqual(ids({ only: ['tls.c'] }), ['dns.a', 'dns.b', 'tls.c']);
    assert.deepEqual(ids({ only: ['tls'], skip: ['*.slow'] }), ['dns.a', 'dns.b', 'tls.c']);
    assert.deepEqual(ids({ only: ['dns.*'] }), ['dns.a', 'dns.b']);
  });

  it('refuses what is no check, with the nearest that is', () => {
    assert.throws(() => ids({ only: ['dsn.a'] }), { code: 'PS-USAGE', hint: 'did you mean dns.a?' });
  });
});

describe('the event loop watch', () => {
  it('sees a loop that was kept busy, and none on a quiet one', async () => {
    const watch = new LoopDelay(systemClock);
    watch.start();
    try {
      await until(() => watch.p99Ms !== null, { what: 'it has measured' });
      const quiet = watch.p99Ms ?? Infinity;
      const busyUntil = performance.now() + 600;
      while (performance.now() < busyUntil);
      const busy = await until(() => ((watch.p99Ms ?? 0) > 250 ? watch.p99Ms : undefined), {
        what: 'it saw it',
      });
      assert.ok(busy > quiet, `${busy} > ${quiet}`);
    } finally {
      watch.stop();
    }
  });
});
