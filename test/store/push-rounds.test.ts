/** `POST /api/v1/push` answers for what was committed before it was asked. */
import assert from 'node:assert/strict';
import { PushRounds } from '../../src/store/push-rounds.ts';

describe('a push that was asked for', () => {
  it('is answered by a round that began after the question, not by one that had sealed before it', async () => {
    const rounds = new PushRounds();
    rounds.begin();
    let answered: number | undefined;
    const asked = rounds.next().then((sent) => {
      answered = sent;
    });
    rounds.done(7);
    await Promise.resolve();
    assert.equal(answered, undefined, 'the round that was under way may have missed the last sale');
    rounds.begin();
    rounds.done(1);
    await asked;
    assert.equal(answered, 1);
  });

  it('hears of the failure of its own round', async () => {
    const rounds = new PushRounds();
    const first = rounds.next();
    rounds.begin();
    const second = rounds.next();
    rounds.failed(new Error('away'));
    await assert.rejects(first, /away/);
    rounds.begin();
    rounds.done(0);
    assert.equal(await second, 0);
  });
});
