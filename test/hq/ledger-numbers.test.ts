/** Holes and doubles in receipt numbers: what is one finding, what is many, and what is none. */
import assert from 'node:assert/strict';
import {
  judgeSeries,
  readRanges,
  type NumbersFound,
  type Range,
  type Series,
} from '../../src/hq/ledger/numbers.ts';

describe('receipt numbers', () => {
  const range = (from: number, to = from): Range => [BigInt(from), BigInt(to)];
  const series = (numbers: readonly Range[] | undefined, more: Partial<Series> = {}): Series => ({
    registerId: 'r1',
    prefix: 'R1-',
    numbers,
    doubles: [],
    shared: [],
    ...more,
  });
  const brief = ({ kind, number }: NumbersFound): string => `${kind} ${number}`;
  const found = (...all: Series[]): string[] => judgeSeries(all).map(brief);

  it('are read as PostgreSQL writes them', () => {
    assert.deepEqual(readRanges('{[1,5),[7,8)}'), [range(1, 4), range(7)]);
    assert.deepEqual(readRanges('{}'), []);
  });

  it('without a gap are nothing to tell, wherever they begin', () => {
    assert.deepEqual(found(series([range(990, 1010)])), []);
  });

  it('that are missing are one finding for each gap, with its range', () => {
    assert.deepEqual(found(series([range(1, 12), range(16, 20), range(22, 40)])), [
      'receipt_hole R1-13..15',
      'receipt_hole R1-21',
    ]);
  });

  it('that leap are no thousands of holes but one note', () => {
    assert.deepEqual(found(series([range(9_900, 9_999), range(20_000, 20_010), range(50_000)])), [
      'receipt_series R1-20011..49999',
    ]);
  });

  it('that wrap or begin again every day are one note, also where the second round has holes', () => {
    const shared = [range(1, 300), range(302, 350)];
    assert.deepEqual(found(series([range(1, 9_999)], { shared })), ['receipt_series R1-1..350']);
  });

  it('that are used twice elsewhere are doubles, in one session or in several', () => {
    const twice = { doubles: [range(7)], shared: [range(98, 101)] };
    assert.deepEqual(found(series([range(1, 120)], twice)), [
      'receipt_double R1-7',
      'receipt_double R1-98..101',
    ]);
  });

  it('with more gaps than numbers follow no order: one note', () => {
    assert.deepEqual(found(series([range(10), range(500), range(900)])), ['receipt_series R1-']);
    assert.deepEqual(found(series(undefined)), ['receipt_series R1-']);
  });

  it('with very many holes are told as one', () => {
    const numbers = Array.from({ length: 60 }, (_, n) => range(n * 10, n * 10 + 8));
    assert.deepEqual(found(series(numbers)), ['receipt_hole R1-9..589']);
  });

  it('of registers that share a counter have a hole only where none of them has the number, told once', () => {
    const one = series([range(1), range(4), range(8)]);
    const other = series([range(2, 3), range(5), range(9)], { registerId: 'r2' });
    assert.deepEqual(found(one, other), ['receipt_hole R1-6..7']);
  });

  it('of registers that count by themselves do not fill the holes of each other', () => {
    const one = series([range(1, 49), range(51, 100)]);
    const other = series([range(1, 100)], { registerId: 'r2' });
    assert.deepEqual(found(one, other), ['receipt_hole R1-50']);
  });
});
