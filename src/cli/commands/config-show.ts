/** `possync config show`: the settings in force and where each comes from; secrets stay unsaid. */
import { fileKey, OPTION_NAMES, OPTIONS, type OptionName } from '../../config/options.ts';
import { EXIT } from '../../core/errors.ts';
import type { Answer, Context } from '../context.ts';
import { renderTable } from '../render/table.ts';

export function run({ loaded }: Context): Promise<Answer> {
  const rows = OPTION_NAMES.map((name) => {
    const spec = OPTIONS[name];
    const secret = 'secret' in spec;
    const value = loaded.config[name];
    return {
      key: fileKey(name),
      env: spec.env,
      value: value === undefined ? null : secret ? '[secret]' : shown(name, value),
      source: loaded.sources[name],
    };
  });
  return Promise.resolve({
    schema: 'possync.config/1',
    exit: EXIT.ok,
    body: { file: loaded.file ?? null, settings: rows },
    text: (paint) =>
      renderTable(
        paint,
        ['SETTING', 'VALUE', 'FROM', 'VARIABLE'],
        rows.map((row) => [row.key, row.value === null ? '-' : String(row.value), row.source, row.env]),
      ) + `Config file: ${loaded.file ?? 'none'}\n`,
  });
}

function shown(name: OptionName, value: unknown): string | number | boolean {
  if (name.endsWith('Ms')) return `${Number(value) / 1_000}s`;
  if (typeof value === 'object' && value !== null && 'host' in value && 'port' in value)
    return `${String(value.host)}:${String(value.port)}`;
  return typeof value === 'number' || typeof value === 'boolean' ? value : String(value);
}
