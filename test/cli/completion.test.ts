/** Completion scripts, asked by the shells themselves. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { COMMANDS } from '../../src/cli/commands.ts';
import { completionScript } from '../../src/cli/completion.ts';
import { possync } from '../support/cli.ts';
import { skip } from '../support/skip.ts';

/** What bash offers after these words; the last one is begun. */
function offered(...words: string[]): string[] {
  const list = ['possync', ...words].map((word) => `'${word}'`).join(' ');
  const script = `${completionScript('bash')}\nCOMP_WORDS=(${list})\nCOMP_CWORD=${words.length}\n_possync\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(status, 0);
  return stdout.trim().split('\n');
}

describe('possync completion', () => {
  it('offers every command and its flags in bash', () => {
    for (const { path } of COMMANDS) {
      const words = path.split(' ');
      assert.deepEqual(
        offered(...words.slice(0, -1), words.at(-1) ?? '').includes(words.at(-1) ?? ''),
        true,
        path,
      );
    }
    assert.deepEqual(offered('sta'), ['status']);
    assert.deepEqual(offered('status', '--wa').sort(), ['--wait', '--watch']);
    assert.ok(offered('store', 'daemon', '--st').includes('--state-dir'));
    assert.ok(offered('--json', 'queue', 'l').includes('ls'));
  });

  for (const shell of ['zsh', 'fish'] as const)
    it(`prints what ${shell} can read`, function () {
      const { error, status, stderr } = spawnSync(shell, ['-n'], {
        input: completionScript(shell),
        encoding: 'utf8',
      });
      if (error !== undefined) skip(this, `${shell} is not here`);
      assert.deepEqual([status, stderr], [0, '']);
    });

  it('names the shells it knows', async () => {
    const { code, stderr } = await possync(['completion', 'tcsh']);
    assert.equal(code, 64);
    assert.match(stderr, /bash, zsh, fish/);
  });
});
