/** The fuzzers find what they are for: each is let loose on a process with one fault planted, and must say so. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROUTES } from '../../src/protocol/http.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { startPossync } from '../support/process.ts';
import { randomFor } from '../support/random.ts';
import { Fortress, type Shop } from './support/fortress.ts';
import { FrameFuzzer } from './support/frame-fuzzer.ts';
import { HttpFuzzer } from './support/http-fuzzer.ts';
import { attackLocal } from './support/local-fuzzer.ts';

const PLANT = pathToFileURL(join(import.meta.dirname, 'support/plant.mjs')).href;
/** Each fault shows in one of some ten to a hundred tries: a run that misses it this often does not happen. */
const ENOUGH = 3_000;

const planted = (plant: string): Record<string, string> => ({
  NODE_OPTIONS: `--import ${PLANT}`,
  PLANT: plant,
});

describe('negative control: the fuzzers', function () {
  this.timeout(400_000);

  const withHq = async (
    plant: string,
    work: (fortress: Fortress, evil: Shop) => Promise<void>,
  ): Promise<void> => {
    const fortress = await Fortress.open(`control ${plant}`, planted(plant));
    const evil = await fortress.enrol('EVIL-1');
    try {
      await work(fortress, evil);
    } finally {
      await evil.database.drop();
      await fortress.close();
    }
  };

  it('find a route that accepts nonsense, and a socket that goes on after it', async () => {
    await withHq('fill-in', async (fortress, evil) => {
      await assert.rejects(
        new HttpFuzzer(fortress, evil).attack(
          `POST ${ROUTES.verify}/begin`,
          ENOUGH,
          randomFor('control fill-in http'),
        ),
        /200 to the nonsense/,
      );
      await assert.rejects(
        new FrameFuzzer(fortress, [evil]).attack('ping', ENOUGH, randomFor('control fill-in frames')),
        /HQ goes on after/,
      );
    });
  });

  it('find a parser that throws', async () => {
    await withHq('parser', async (fortress, evil) => {
      await assert.rejects(
        new HttpFuzzer(fortress, evil).attack(
          `POST ${ROUTES.verify}/begin`,
          ENOUGH,
          randomFor('control parser'),
        ),
        /50\d PS-[A-Z-]+ to /,
      );
    });
  });

  it('find a server that keeps what it was sent', async () => {
    await withHq('hoard', async (fortress, evil) => {
      await assert.rejects(
        new HttpFuzzer(fortress, evil).attack(`POST ${ROUTES.verify}/begin`, 300, randomFor('control hoard')),
        /HQ grew by/,
      );
    });
  });

  it('find a socket that is closed without saying why', async () => {
    await withHq('close-code', async (fortress, evil) => {
      await assert.rejects(
        new FrameFuzzer(fortress, [evil]).attack('stat', ENOUGH, randomFor('control close code')),
        /closed with 1011/,
      );
    });
  });

  it('find a route that reaches another store', async () => {
    await withHq('none', async (fortress, evil) => {
      await fortress.pool.query(`
        create function public.planted() returns trigger language plpgsql as $$
        begin
          update public.stores set name = name || '!' where id <> new.store_id;
          return new;
        end $$;
        create trigger planted after insert on possync.rotations for each row execute function public.planted();`);
      await assert.rejects(
        new HttpFuzzer(fortress, evil).attack(`POST ${ROUTES.rotations}`, 200, randomFor('control others')),
        /nothing of another store has changed/,
      );
    });
  });

  it("find a fault of the daemon's local API", async () => {
    const hq = await TestHq.open('control local');
    const store = await TestStore.enrolled(hq, 'LOCAL-1');
    const daemon = await startPossync(['store', 'daemon'], {
      env: {
        DATABASE_URL: store.database.url,
        POSSYNC_STATE_DIR: store.stateDir,
        LOG_DIR: join(store.stateDir, 'log'),
        POSSYNC_STATUS_LISTEN: '127.0.0.1:0',
        ...planted('query'),
      },
    });
    try {
      const ready = await daemon.line(/"event":"ready"/, 60_000);
      const { socket, status_url: url } = JSON.parse(ready) as { socket: string; status_url: string };
      await assert.rejects(
        attackLocal({ port: Number(new URL(url).port), socket }, ENOUGH, randomFor('control local')),
        /503 to /,
      );
    } finally {
      await daemon.kill();
      await store.close();
      await hq.close();
    }
  });
});
