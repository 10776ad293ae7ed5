/** models and datasets. */
import { openAsBlob } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { CleanInput, DatasetSummary } from '@mlx-training/sdk'
import { each } from '../each.ts'
import { EXIT, Stop } from '../exit.ts'
import { save } from '../save.ts'
import { bytes, count, plural, time } from '../screen/format.ts'
import { asJson, harmless, marked, note, say, table } from '../screen/print.ts'
import type { Session } from '../session.ts'
import { explainReport, type Reading } from './validate.ts'

export async function models({ client, json }: Session): Promise<void> {
  const { models } = await client.models()
  if (json) return asJson(models)
  const rows = models.map((model) => [
    model.id,
    model.source.replace('_', ' '),
    model.base_model ?? model.architecture ?? '',
    model.quantization ?? '',
    bytes(model.size_bytes),
  ])
  say(table(['model', 'from', 'architecture or base', 'quantization', 'size'], rows, [4]))
}

export async function datasets({ client, json }: Session): Promise<void> {
  const all: DatasetSummary[] = []
  let after: string | null = null
  do {
    const page = await client.datasets.list({ limit: 200, ...(after !== null && { after }) })
    all.push(...page.datasets)
    after = page.next
  } while (after !== null)
  if (json) return asJson(all)
  if (all.length === 0) return say('No data sets yet. Upload one with: mlx-training datasets upload file.jsonl')
  const rows = all.map(({ id, name, format, valid, rows, valid_rows, bytes: size, created_at }) => [
    id,
    name,
    // A file with errors has a format too, where some of its rows could be read.
    [format, !valid && 'not valid'].filter(Boolean).join(', '),
    count(rows) + (valid_rows < rows ? `, ${count(valid_rows)} valid` : ''),
    bytes(size),
    time(created_at),
  ])
  say(table(['id', 'name', 'format', 'rows', 'size', 'since'], rows, [3, 4]))
}

export async function upload(
  { client, json }: Session,
  file: string,
  options: Reading & { name?: string },
): Promise<void> {
  const found = await stat(file).catch(() => null)
  if (!found?.isFile())
    throw new Stop(`${file}: ${found ? 'is no file' : "there is no such file, or it can't be read"}`)
  const { report, already_there, ...dataset } = await client.datasets.upload(await openAsBlob(file), {
    name: options.name ?? basename(file),
    columns: options.columns,
    tags: options.tags,
    format: options.format,
  })
  if (json) asJson({ ...dataset, report, already_there })
  else say(`${dataset.id}${already_there ? ' (was there already)' : ''}\n\n${explainReport(report)}`)
  if (!report.valid) throw new Stop(`${file} is kept as ${dataset.id}, but has errors`, EXIT.bad)
}

export async function show({ client, json }: Session, id: string): Promise<void> {
  const dataset = await client.datasets.get(id)
  if (json) return asJson(dataset)
  say(`${dataset.id}  ${dataset.name}\n\n${explainReport(dataset.report)}`)
}

export async function rows(
  { client, json }: Session,
  id: string,
  { offset, limit, issues }: { offset?: number; limit?: number; issues?: boolean },
): Promise<void> {
  const page = await client.datasets.rows(id, { offset, limit, issues })
  if (json) return asJson(page)
  if (page.rows.length === 0)
    say(`There are ${count(page.total)} rows${offset ? `, none from ${count(offset)} on` : ''}`)
  for (const { sample, line, row, text, issues } of page.rows) {
    say(`row ${sample}${line === null ? '' : `, line ${line}`}`)
    say(row === null ? harmless(text ?? '') : JSON.stringify(row, null, 2))
    for (const { message } of issues) say(marked('•', message))
  }
}

export async function download({ client }: Session, id: string, file: string): Promise<void> {
  await save(await client.datasets.content(id), file)
}

export async function split({ client, json }: Session, id: string, { share }: { share: number }): Promise<void> {
  const { train, validation } = await client.datasets.split(id, { validation_share: share })
  if (json) return asJson({ train, validation })
  say(
    table(
      ['for', 'id', 'rows'],
      [train, validation].map((one, nth) => [nth ? 'validation' : 'training', one.id, count(one.rows)]),
      [2],
    ),
  )
}

export interface CleanOptions {
  repairs: CleanInput['repairs']
  format?: CleanInput['format']
  dryRun?: boolean
}

export async function clean(
  { client, json }: Session,
  id: string,
  { repairs, format, dryRun }: CleanOptions,
): Promise<void> {
  const cleaned = await client.datasets.clean(id, { repairs, format, dry_run: dryRun ?? false })
  if (json) return asJson(cleaned)
  const done = cleaned.repairs.map(({ repair, rows_changed, rows_dropped }) => [
    repair,
    count(rows_changed),
    count(rows_dropped),
  ])
  say(table(['repair', 'changed', 'dropped'], done, [1, 2]))
  say(
    `\n${plural(cleaned.rows_before, 'row')} before, ${count(cleaned.rows_after)} after${cleaned.dataset ? `: ${cleaned.dataset.id}` : ''}`,
  )
  if (cleaned.dataset && !cleaned.dataset.valid)
    note('It has errors still: rows that have some are left as they are, unless drop_invalid is among the repairs')
}

export async function remove({ client, json }: Session, ids: string[]): Promise<void> {
  await each(ids, async (id) => {
    const answer = await client.datasets.delete(id)
    if (json) asJson(answer)
    else say(`${answer.name} (${id}) is deleted`)
  })
}
