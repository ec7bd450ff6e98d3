/** Work that many ask for at the same moment: who comes alone does not wait, a crowd gathers. */
import assert from 'node:assert/strict';
import { Joint } from '../../src/core/joint.ts';
import { HandClock } from '../support/hand-clock.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('joint work', () => {
  it('with a rest takes the first at once, and those who come within the rest together', async () => {
    const clock = new HandClock();
    const works: (readonly number[])[] = [];
    const joint = new Joint<number, number>(
      (keys) => {
        works.push(keys);
        return Promise.resolve(keys.length);
      },
      clock,
      50,
    );
    clock.advance(1_000);
    assert.equal(await joint.join(1), 1);
    const rest = [joint.join(2), joint.join(3)];
    clock.advance(20);
    await turn();
    rest.push(joint.join(4));
    await turn();
    assert.deepEqual(works, [[1]]);
    clock.advance(30);
    assert.deepEqual(await Promise.all(rest), [3, 3, 3]);
    clock.advance(50);
    assert.equal(await joint.join(5), 1);
    assert.deepEqual(works, [[1], [2, 3, 4], [5]]);
  });
});
