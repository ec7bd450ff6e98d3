/** Loaded into a process of possync by `profile.ts`: profiles its CPU until it ends, and writes the file to BENCH_PROFILE. */
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';

const session = new Session();
session.connect();
session.post('Profiler.enable');
session.post('Profiler.start');
process.once('exit', () => {
  session.post('Profiler.stop', (_error, result) => {
    if (result === undefined) return;
    const name = process.argv.slice(2, 4).join('-') || 'node';
    writeFileSync(
      join(process.env.BENCH_PROFILE ?? '.', `${name}-${process.pid}.cpuprofile`),
      JSON.stringify(result.profile),
    );
  });
});
