/** Days of a log in a moment: whatever writes gets a clock in the hand and a real log file, and the file is measured. */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLog } from '../../src/core/log-output.ts';
import type { Log } from '../../src/core/log.ts';
import { HandClock } from './hand-clock.ts';

export interface PlayedLog {
  /** Of all its files, turned away ones too. */
  readonly bytes: number;
  /** Of the file that is being written. */
  readonly lines: string[];
}

/** Plays `life` to its end; the log is one of a store's daemon as it is set by default. */
export async function playLog(life: (clock: HandClock, log: Log) => void): Promise<PlayedLog> {
  const dir = await mkdtemp(join(tmpdir(), 'possync-played-log-'));
  try {
    const path = join(dir, 'store-server.log');
    const { log, close } = openLog({
      file: { path },
      level: 'info',
      fields: { role: 'store', ver: '1.0.0' },
    });
    life(new HandClock(), log);
    await close();
    let bytes = 0;
    for (const name of await readdir(dir)) bytes += (await stat(join(dir, name))).size;
    return { bytes, lines: (await readFile(path, 'utf8')).trim().split('\n') };
  } finally {
    await rm(dir, { recursive: true });
  }
}
