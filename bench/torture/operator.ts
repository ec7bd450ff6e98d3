/** The person at HQ who reads `status` and runs the one command of the runbook, where a flow has halted. */
import { setTimeout as pause } from 'node:timers/promises';
import { readHalted } from './readings.ts';
import type { Site, World } from './world.ts';

/** The command of the runbook for each code with which sending halts. */
const WAY_OUT: Readonly<Record<string, readonly string[]>> = {
  'PS-UP-ROLLBACK': ['store', 're-enrol'],
  'PS-UP-DIVERGED': ['store', 're-enrol'],
  'PS-UP-EPOCH': ['store', 're-enrol'],
  'PS-HQ-TOO-OLD': ['store', 'reexport', '--from', '2020-01-01'],
};
/** HQ's to run: after several restores of stores a batch may hold more that contradicts than one in a hundred. */
const AT_HQ: Readonly<Record<string, readonly string[]>> = { 'PS-UP-BREAKER': ['queue', 'retry'] };

export class Operator {
  readonly #world: World;
  /** Halts seen, by code, and how many commands it took. */
  readonly halts: Record<string, number> = {};
  commands = 0;
  refused = 0;

  constructor(world: World) {
    this.#world = world;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const site of this.#world.sites) await this.#look(site);
      await pause(500);
    }
  }

  async #look(site: Site): Promise<void> {
    const code = await readHalted(site.machine.pool).catch(() => null);
    if (code === null) return;
    const atHq = AT_HQ[code];
    const command = atHq === undefined ? WAY_OUT[code] : [...atHq, site.code];
    if (command === undefined) {
      this.#world.violate('halted', `${site.code} halted with ${code}, and no command gets out of it`);
      return;
    }
    this.#world.note(`${site.code} halted: ${code}`);
    this.commands += 1;
    const { code: exit, stderr } = await this.#world.command(atHq === undefined ? site : 'HQ', command);
    if (exit === 0) this.halts[code] = (this.halts[code] ?? 0) + 1;
    else {
      // HQ cannot be reached now, or the clone is still connected: it is asked again.
      this.refused += 1;
      this.#world.note(`possync ${command.join(' ')}: ${stderr.trim()}`);
      await pause(1_000);
    }
  }
}
