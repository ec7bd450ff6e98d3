/** Loaded by mocha before any test: says with which seed it runs, and ends what the tests have started. */
import type { Context, RootHookObject } from 'mocha';
import { stopCluster } from './postgres.ts';
import { endProcesses } from './process.ts';
import { runSeed } from './random.ts';

export function mochaGlobalSetup(): void {
  console.log(`\n  [Node ${process.versions.node}, seed ${runSeed}]`);
}

export const mochaHooks: RootHookObject = {
  afterEach(this: Context) {
    if (this.currentTest?.state === 'failed') {
      console.log(`      to run it with the same random values: POSSYNC_TEST_SEED=${runSeed}`);
    }
  },
  // A root hook and not the global teardown: a leak found here counts as a failure.
  async afterAll() {
    await endProcesses();
    await stopCluster();
  },
};
