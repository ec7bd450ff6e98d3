/** The credential file: whole at every moment, readable by its owner only, found again after any kill. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PossyncError } from '../../src/core/errors.ts';
import { formatCredential, newKid, newSecret } from '../../src/core/secret.ts';
import {
  credentialPath,
  finishPending,
  preparePending,
  readCredential,
  saveCredential,
  type StoreCredential,
} from '../../src/store/credential.ts';
import { startNode } from '../support/process.ts';

const WRITER = join(import.meta.dirname, 'write-credential.ts');

describe('the credential file', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-credential-'));
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  function aCredential(): StoreCredential {
    const kid = newKid();
    return {
      token: formatCredential({ kid, secret: newSecret(kid) }),
      kid,
      hqUrl: 'https://hq.example.com:3001',
      hqId: '00000000-0000-7000-8000-000000000001',
      storeId: 42,
      code: 'NYC-001',
      name: 'Elm Street',
      enrolledWith: 'ABCDEFGH',
      caFile: '/etc/possync/ca.pem',
      allowPlaintext: true,
    };
  }

  it('comes back as it was saved, in a directory of mode 0700 and a file of mode 0600', async () => {
    const state = join(dir, 'deep', 'state');
    assert.equal(await readCredential(state), undefined);
    const credential = aCredential();
    await saveCredential(state, credential);
    const { token, ...rest } = (await readCredential(state)) ?? assert.fail('no credential');
    assert.equal(token.reveal(), credential.token.reveal());
    assert.deepEqual({ ...rest, token: credential.token }, credential);
    assert.equal((await stat(credentialPath(state))).mode & 0o777, 0o600);
    assert.equal((await stat(state)).mode & 0o777, 0o700);
    assert.deepEqual(await readdir(state), ['credential'], 'nothing temporary is left');
  });

  it('is refused when others may read it', async () => {
    await saveCredential(dir, aCredential());
    for (const mode of [0o640, 0o604, 0o660]) {
      await chmod(credentialPath(dir), mode);
      await assert.rejects(
        readCredential(dir),
        (error) => error instanceof PossyncError && error.code === 'PS-FILE-MODE',
      );
    }
  });

  it('is never printed: a text, a JSON document and an inspection show the kid alone', async () => {
    const credential = aCredential();
    const secret = credential.token.reveal();
    await saveCredential(dir, credential);
    const read = await readCredential(dir);
    for (const shown of [String(read?.token), JSON.stringify(read)]) {
      assert.ok(!shown.includes(secret));
      assert.ok(shown.includes(credential.kid));
    }
  });

  it('names a damaged file instead of guessing', async () => {
    for (const text of ['', '{', '{"token":"x"}']) {
      await writeFile(credentialPath(dir), text, { mode: 0o600 });
      await assert.rejects(
        readCredential(dir),
        (error) => error instanceof PossyncError && error.code === 'PS-TOKEN-GARBLED',
      );
    }
  });

  it('uses the same secret again for the same token, and a new one for another', async () => {
    const first = await preparePending(dir, 'TOKENAAA');
    assert.equal((await preparePending(dir, 'TOKENAAA')).token.reveal(), first.token.reveal());
    assert.notEqual((await preparePending(dir, 'TOKENBBB')).kid, first.kid);
    await finishPending(dir);
    await finishPending(dir);
    assert.deepEqual(await readdir(dir), []);
  });

  it('says what is in the way when it cannot be written', async () => {
    await writeFile(join(dir, 'file'), '');
    await assert.rejects(
      saveCredential(join(dir, 'file', 'state'), aCredential()),
      (error) => error instanceof PossyncError && error.exit === 73,
    );
  });

  /**
   * How many reads beside a writer, and after its kill, did not find a whole document. `reads` beside each of two
   * writers; with `untilTorn`, no more than it takes to see one.
   */
  async function tornReads(
    how: 'product' | 'plain',
    { reads, untilTorn = false }: { reads: number; untilTorn?: boolean },
  ): Promise<number> {
    let torn = 0;
    const whole = async (): Promise<void> => {
      try {
        JSON.parse(await readFile(credentialPath(dir), 'utf8'));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        torn += 1;
      }
    };
    await saveCredential(dir, aCredential());
    for (let kill = 0; kill < 2; kill++) {
      const writer = await startNode(['--import', 'tsx', WRITER, dir, how]);
      await writer.line(/writing/);
      for (let read = 0; read < reads && !(untilTorn && torn > 0); read++) await whole();
      await writer.kill();
      await whole();
    }
    return torn;
  }

  it('is whole at every read beside a writer, and after its kill -9', async () => {
    assert.equal(await tornReads('product', { reads: 400 }), 0);
  });

  it('negative control: with one plain write, readers see half a file', async () => {
    assert.notEqual(await tornReads('plain', { reads: 100_000, untilTorn: true }), 0);
  });
});
