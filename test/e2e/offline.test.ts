/** A store that comes back after weeks offline, at a tenth of a day's size: in order, whole, and in bounded memory. */
import assert from 'node:assert/strict';
import { runOffline, type OfflineResult } from '../../bench/support/offline.ts';
import { runPossync } from '../support/process.ts';

/** What a program takes when it has just started is about 90 MB; a queue in memory would be ten times the bound. */
const MEMORY_MB = 320;

describe('weeks offline', function () {
  this.timeout(300_000);
  let result: OfflineResult;
  before(async () => {
    await runPossync(['--version']); // builds the program that runOffline starts
    result = await runOffline({ rows: 60_000, products: 20_000, durable: false });
  });

  it('10,000 queued sales drain, each once and in order', () => {
    assert.deepEqual(
      [result.salesAtHq, result.seqAtHq, result.dead, result.outOfOrder],
      [result.sales, result.sales + 1, 0, 0],
    );
  });

  it('20,000 products, changed three times, come down as one state', () => {
    assert.equal(result.priceEqual, 20_000);
  });

  it('with memory that the length of the queue does not decide', () => {
    for (const samples of [result.hqRss, result.storeRss])
      assert.ok(Math.max(...samples) < MEMORY_MB, `${Math.max(...samples)} MB`);
  });
});
