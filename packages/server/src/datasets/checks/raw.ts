import type { DatasetFormat } from '@mlx-training/contract'
import type { Conversation } from '../formats/format.ts'
import type { RowContext } from '../row-context.ts'
import { BLANK, checkLength } from './turns.ts'

/** Text to continue: whether there is something to learn. A whole document may be as long as it likes. */
export function checkRaw(
  { completion }: NonNullable<Conversation['raw']>,
  format: DatasetFormat,
  context: RowContext,
): void {
  const field = format === 'text' ? 'text' : 'completion'
  if (BLANK.test(completion)) context.find('empty_output', 'Empty output: there is nothing to learn', field)
  else if (format !== 'text') checkLength(completion, field, context)
}
