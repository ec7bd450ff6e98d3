/** A program for the tests of migrations: migrates DATABASE_URL to the role in its argument and prints what ran. */
import { installTriggers } from '../../src/db/capture.ts';
import { migrate } from '../../src/db/migrations.ts';

const role = process.argv[2] === 'hq' ? 'hq' : 'store';
const ran = await migrate(role, process.env.DATABASE_URL, (db) => installTriggers(db, role));
console.log(JSON.stringify(ran));
