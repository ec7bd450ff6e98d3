/** A program for the launcher's tests: starts a PostgreSQL, says where, and waits to be killed. */
import { startPostgres } from '../../src/demo/postgres.ts';

const { port, dataDir, version } = await startPostgres({ durable: false, prefer: 'npm' });
console.log(JSON.stringify({ port, dataDir, version }));
setInterval(() => undefined, 60_000);
