/** A process that judges what is marked until it is killed; a line for every time that it has. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool } from '../../src/db/pool.ts';
import { ledgerRound } from '../../src/hq/ledger/round.ts';

const pool = createPool({ url: process.env.DATABASE_URL, applicationName: 'possync test ledger', max: 1 });
for (;;) {
  const { result } = await ledgerRound(pool);
  if (result === 'judged') process.stdout.write('judged\n');
  else await sleep(5);
}
