import type {
  ColumnMap,
  DatasetFormat,
  PreviewResponse,
  Supervision,
  TagMap,
  ValidateResponse,
} from '@mlx-training/sdk'
import { EXIT, Stop } from '../exit.ts'
import { absolute } from '../place.ts'
import pc from '../screen/colours.ts'
import { bytes, count, percent, plural } from '../screen/format.ts'
import { asJson, harmless, pairs, say, table, warning } from '../screen/print.ts'
import { waiting } from '../screen/waiting.ts'
import type { Session } from '../session.ts'

/** How a file is to be read: the flags that all who read one have. */
export interface Reading {
  columns?: ColumnMap
  tags?: TagMap
  format?: DatasetFormat
}

interface Options extends Reading {
  model?: string
  validation?: string
  maxSeqLength?: number
  mask?: number
}

/** Findings that are shown, with `--json` for all. */
const SHOWN = 20

/** Throws Stop with EXIT.bad when the data have errors. */
export async function validate({ client, local, json }: Session, file: string, options: Options): Promise<void> {
  const path = local ? absolute(file) : file
  const length = options.maxSeqLength === undefined ? {} : { max_seq_length: options.maxSeqLength }
  const reading = { columns: options.columns, tags: options.tags, dataset_format: options.format }
  if (options.mask !== undefined) {
    if (!options.model) throw new Stop('--mask needs --model: tokens depend on it')
    const preview = await client.datasets.preview({
      file_path: path,
      model_name: options.model,
      samples: [options.mask],
      ...reading,
      ...length,
    })
    // A row of which nothing can be learned may have no texts either: the file's count tells the two apart.
    if (preview.rows.every(({ problem, texts }) => problem !== null && texts.length === 0)) {
      const { total_samples } = await client.datasets.validate({ file_path: path, ...reading })
      if (options.mask >= total_samples)
        throw new Stop(`--mask ${options.mask}: ${file} has ${plural(total_samples, 'row')}, counted from 0`)
    }
    return json ? asJson(preview) : say(mask(preview))
  }
  const checking = client.datasets.validate({
    file_path: path,
    ...reading,
    ...(options.model !== undefined && { model_name: options.model, ...length }),
    ...(options.validation !== undefined && {
      validation_path: local ? absolute(options.validation) : options.validation,
    }),
  })
  const report = await waiting(`checking ${file}`, checking)
  if (json) asJson(report)
  else say(explainReport(report))
  if (!report.valid) throw new Stop(`${file} has ${plural(report.errors.length, 'error')}`, EXIT.bad)
}

export function explainReport(report: ValidateResponse): string {
  const parts = [summary(report)]
  const kinds = Object.entries(report.counts)
  if (kinds.length > 0) {
    const firstOf = (code: string) => report.issues.find((issue) => issue.code === code)
    const place = (code: string) => {
      const { sample, line } = firstOf(code) ?? {}
      return [sample == null ? '' : `row ${sample}`, line == null ? '' : `line ${line}`].filter(Boolean).join(', ')
    }
    parts.push(
      table(
        ['finding', 'rows', 'first', 'what'],
        kinds.slice(0, SHOWN).map(([code, rows]) => [code, count(rows), place(code), firstOf(code)?.message ?? '']),
        [1],
      ),
    )
  }
  if (report.supervision) parts.push(supervision(report.supervision))
  if (report.validation) {
    const { leakage, total_samples } = report.validation
    parts.push(`Held out: ${plural(total_samples, 'row')}, ${count(leakage.rows)} of them also trained on`)
  }
  return parts.join('\n\n')
}

function summary({ valid, format, total_samples, valid_samples, size_bytes, detection, statistics }: ValidateResponse) {
  const { characters, turns } = statistics
  return pairs([
    ['result', valid ? pc.green('valid') : pc.red('not valid')],
    ['format', format ?? 'none'],
    ['because', pc.dim(detection)],
    ['rows', `${count(total_samples)}, ${count(valid_samples)} of them valid; ${bytes(size_bytes)}`],
    characters && ['characters', `a row ${count(characters.p50)} at the median, ${count(characters.max)} at most`],
    turns && ['turns', `a row ${count(turns.p50)} at the median, ${count(turns.max)} at most`],
  ])
}

function supervision({ model_name, tokens, limit, suggestion, warnings, ...report }: Supervision): string {
  const share = (part: number) => percent(tokens.total === 0 ? 0 : part / tokens.total)
  const lines = pairs([
    ['model', model_name],
    [
      'used',
      `${count(report.used_rows)} of ${count(report.rows)} rows, ${count(report.cut_rows)} cut to ${count(limit)} tokens`,
    ],
    [
      'tokens',
      `${count(tokens.total)}: ${pc.green(`${share(tokens.trained)} trained`)}, ${share(tokens.masked)} masked, ${
        tokens.cut > 0 ? pc.red(`${share(tokens.cut)} cut`) : '0.0% cut'
      }`,
    ],
    [
      'steps',
      `${count(report.steps_per_epoch)} an epoch at batch ${report.batch_size}, ${percent(report.padding_share)} padding`,
    ],
    suggestion ? ['advice', suggestion] : null,
  ])
  return [lines, ...warnings.map(warning)].join('\n')
}

/** The row's text: trained tokens green, masked ones plain, cut and unused ones struck out. */
export function mask({ rows }: PreviewResponse): string {
  const colour = {
    trained: pc.green,
    masked: (text: string) => text,
    cut: (text: string) => pc.red(pc.strikethrough(text)),
    unused: (text: string) => pc.dim(pc.strikethrough(text)),
  }
  const plain = { trained: '+', masked: ' ', cut: 'x', unused: '-' }
  return rows
    .flatMap(({ sample, problem, notes, texts }) => [
      pc.bold(`row ${sample}`) + (problem ? `  ${pc.red(problem)}` : ''),
      ...notes.map(({ message }) => warning(message)),
      ...texts.map(({ pieces, tokens }) => {
        // Each in its colour: these are the legend, too.
        const numbers = (['trained', 'masked', 'cut', 'unused'] as const)
          .map((state) => colour[state](`${tokens[state]} ${state}`))
          .join(', ')
        // Without colours a line a token, with a mark before it.
        const text = pc.isColorSupported
          ? pieces
              .map(({ text, state }) => harmless(text).replace(/[^\n]+/g, colour[state]))
              .join('')
              .trimEnd()
          : pieces.map(({ text, state }) => `${plain[state]} ${JSON.stringify(text)}`).join('\n')
        return `${text}\n${numbers}`
      }),
    ])
    .concat(pc.isColorSupported ? [] : ['+ trained, x cut, - unused'])
    .join('\n')
}
