/** The waiting helper: its answer and what it says when time runs out. */
import assert from 'node:assert/strict';
import { until } from './until.ts';

describe('until', () => {
  it('returns the first answer that is one, zero and empty text included', async () => {
    const answers = [undefined, null, false, 0];
    assert.equal(await until(() => answers.shift(), { what: 'an answer', everyMs: 1 }), 0);
    assert.equal(await until(() => '', { what: 'an answer' }), '');
  });

  it('takes an exception for "not yet"', async () => {
    let asked = 0;
    const ask = (): boolean => {
      asked += 1;
      if (asked < 3) throw new Error('refused');
      return true;
    };
    assert.equal(await until(ask, { what: 'an answer', everyMs: 1 }), true);
  });

  it('says at the end what it waited for and what stood in the way', async () => {
    const ask = (): never => {
      throw new Error('connection refused');
    };
    await assert.rejects(until(ask, { what: 'HQ answers', timeoutMs: 5, everyMs: 1 }), {
      message: 'within 5 ms this did not happen: HQ answers: connection refused',
    });
  });
});
