import type { DatasetFormat, Leakage, ValidateResponse } from '@mlx-training/contract'
import type { Duplicates } from './checks/duplicates.ts'
import { Findings, listing, WHOLE_FILE } from './findings.ts'
import type { FileFault } from './split/fault.ts'
import type { Tally } from './tally.ts'
import { plural } from './words.ts'

/** OpenAI's minimum; below it a run learns the rows by heart. */
const FEW_ROWS = 10

/** A report without what a model makes of the rows. */
export type Report = Omit<ValidateResponse, 'supervision' | 'validation'>
export type HeldOutReport = Report & { leakage: Leakage }

export interface Seen {
  tally: Tally
  duplicates: Duplicates
  /** Why reading ended before the file did. */
  fault: FileFault | null
  container: 'array' | 'lines' | null
  /** What the file is, where it was turned into JSON Lines. */
  table?: string | undefined
  byteOrderMark: boolean
  size: number
  /** The format that the user asked for. */
  asked: DatasetFormat | undefined
  /** What a row needs, in words. */
  expected: string
}

/** What is told of a file when all of it has been seen. */
export function reportOf(seen: Seen): Report {
  const { tally, duplicates, fault, asked } = seen
  const file = new Findings()
  if (fault) file.add(fault.code, fault.message, { ...WHOLE_FILE, line: fault.line })
  const formats = [...tally.formats.values()]
  const names = new Set(formats.map(({ name }) => (isKind(name, asked) ? asked : name)))
  const format = names.size === 1 ? ([...names][0] as DatasetFormat) : null
  if (names.size > 1) {
    const parts = formats.map(
      ({ name, traits, count, first }) =>
        `${plural(count, 'row')} of ${name} (${traits}; the first is sample ${first.sample}, line ${first.line})`,
    )
    file.add('mixed_formats', `The file mixes formats: ${parts.join(' and ')}. One file, one format`, WHOLE_FILE)
  }
  if (asked && format && asked !== format)
    file.add(
      'format_mismatch',
      `The format asked for is ${asked}, but this is ${format}: ${detectionOf(seen)}. Ask for ${format}, or leave the format out`,
      WHOLE_FILE,
    )
  if (tally.rows === 0 && !fault) file.add('no_rows', 'The file holds no rows', WHOLE_FILE)
  else if (tally.rows > 0 && tally.rows < FEW_ROWS)
    file.add('few_rows', `Only ${plural(tally.rows, 'row')}: a model needs more to learn from`, WHOLE_FILE)
  if (tally.good > 0 && tally.unlearned === tally.good)
    file.add(
      'nothing_to_learn',
      'No row has an assistant turn that is to be learned: all have train false or weight 0, so nothing could be trained',
      WHOLE_FILE,
    )
  if (seen.byteOrderMark)
    file.add('byte_order_mark', 'The file starts with a byte order mark, which was skipped', WHOLE_FILE)
  if (duplicates.incomplete)
    file.add('duplicates_unchecked', 'Too many rows to look for duplicates among all of them', WHOLE_FILE)
  const { errors, warnings, issues, counts } = listing(file, tally.findings, duplicates.findings)
  const ofFormat = formats.reduce((sum, { count }) => sum + count, 0)
  return {
    valid: errors.length === 0,
    format,
    total_samples: tally.rows,
    errors,
    warnings,
    sample_preview: tally.preview,
    detection: detectionOf(seen),
    confidence: format === null ? 0 : Math.round((1000 * ofFormat) / tally.rows) / 1000,
    issues,
    counts,
    valid_samples: tally.good,
    size_bytes: seen.size,
    statistics: { ...tally.statistics.report(), duplicates: { ...duplicates.counts } },
  }
}

/** Who asks for ShareGPT gets OpenAI's messages as well: their turns are the same in other words. */
function isKind(found: DatasetFormat, asked: DatasetFormat | undefined): asked is DatasetFormat {
  return found === asked || (asked === 'sharegpt' && found === 'openai')
}

/** What decided on the format, in words. */
function detectionOf({ tally, container, table, expected }: Seen): string {
  if (tally.formats.size === 0) return `No row has the keys of a known format; ${expected}`
  const parts = [...tally.formats.values()].map(({ traits, count }) => `${count} of ${tally.rows} rows have ${traits}`)
  return `${parts.join(', ')}; the file is ${table ?? (container === 'array' ? 'a JSON array' : 'JSON Lines')}`
}
