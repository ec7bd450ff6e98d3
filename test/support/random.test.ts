/** The seeded generator: values of a failed run must come back. */
import assert from 'node:assert/strict';
import { randomFor } from './random.ts';

describe('random values for tests', () => {
  it('come back with the same seed and name, and differ with another of either', () => {
    const values = (name: string, seed: number): number[] => {
      const random = randomFor(name, seed);
      return Array.from({ length: 20 }, () => random.int(1000));
    };
    assert.deepEqual(values('a', 1), values('a', 1));
    assert.notDeepEqual(values('a', 1), values('a', 2));
    assert.notDeepEqual(values('a', 1), values('b', 1));
  });

  it('spread evenly', () => {
    const random = randomFor('spread', 7);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i += 1) {
      const value = random.int(10);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    // 1000 each, with a standard deviation of 30: five of them is never seen by chance.
    assert.ok(
      counts.every((count) => Math.abs(count - 1000) < 150),
      counts.join(' '),
    );
  });

  it('make valid version 4 UUIDs', () => {
    const random = randomFor('uuid', 1);
    const made = Array.from({ length: 100 }, () => random.uuid());
    assert.equal(new Set(made).size, 100);
    for (const uuid of made)
      assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('keep every element when they shuffle', () => {
    const all = Array.from({ length: 50 }, (_, index) => index);
    const shuffled = randomFor('shuffle', 1).shuffle(all);
    assert.notDeepEqual(shuffled, all);
    assert.deepEqual(
      [...shuffled].sort((a, b) => a - b),
      all,
    );
  });
});
