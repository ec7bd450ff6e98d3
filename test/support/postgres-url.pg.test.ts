/** A run of tests on a server that runs already: POSSYNC_TEST_PG_URL. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { connect } from '../../src/db/pool.ts';
import { startPostgres } from '../../src/demo/postgres.ts';
import { startNode } from './process.ts';

const ROOT = resolve(import.meta.dirname, '../..');

describe('a run of tests with POSSYNC_TEST_PG_URL', () => {
  it('uses that server, starts none, and leaves no database behind', async () => {
    const server = await startPostgres({ durable: true, prefer: 'npm' });
    const args = ['node_modules/mocha/bin/mocha.js', 'test/support/postgres.pg.test.ts'];
    // Without any binaries in reach: a run that started its own would fail.
    const env = { POSSYNC_TEST_PG_URL: server.url('postgres'), POSSYNC_PG_BINDIR: '/nonexistent' };
    const child = await startNode(args, { cwd: ROOT, env });
    const { code, stdout, stderr } = await child.ended(60_000);
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /\[PostgreSQL .+, POSSYNC_TEST_PG_URL\]/);
    assert.match(stdout, /^4 passed, 0 failed$/m);
    const client = await connect({ url: server.url('postgres'), applicationName: 'possync test' });
    const { rows } = await client.query(`select datname from pg_database where datname like 'possync%'`);
    assert.deepEqual(rows, []);
    await client.end();
    await server.stop();
  });
});
