/** A message of COPY under the time limit of its client: nothing of it is kept once it is answered. */
import assert from 'node:assert/strict';
import pg from 'pg';
import { copyIn } from '../../src/db/copy-in.ts';
import { hqDatabase, type TestDatabase } from '../support/postgres.ts';

describe('rows copied under a time limit', () => {
  let database: TestDatabase;
  let client: pg.Client;
  before(async () => {
    database = await hqDatabase('copy_limit');
    client = new pg.Client({ connectionString: database.url, query_timeout: 3_600_000 });
    await client.connect();
    await client.query('create temporary table copied (n integer)');
  });
  after(async () => {
    await client.end();
    await database.drop();
  });

  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const copy = (data: string, rows: number): Promise<void> =>
    copyIn(client, [{ sql: 'copy copied (n) from stdin', data: Buffer.from(data), rows }]);

  it('leave no timer behind, neither taken nor refused', async () => {
    const before = timers();
    for (let n = 0; n < 20; n += 1) await copy('1\n2\n', 2);
    for (let n = 0; n < 20; n += 1) await assert.rejects(copy('no number\n', 1));
    assert.ok(timers() <= before + 5, `${timers() - before} timers are left`);
    assert.equal((await client.query('select from copied')).rowCount, 40);
  });
});
