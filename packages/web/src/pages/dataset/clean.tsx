/** Repairs: chosen, tried, and made into a new data set; this one stays as it is. */
import type { CleanInput, CleanResponse, Dataset, DatasetFormat, RepairName } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Dialog } from '../../components/dialog.tsx'
import { Checkbox, Field, Select } from '../../components/field.tsx'
import { toastError } from '../../components/toast.tsx'
import { count } from '../../format.ts'
import { navigate } from '../../router.ts'
import { client } from '../../session.ts'
import { kindsOf } from './findings.tsx'

/** In the order in which they are done. */
const REPAIRS: Record<RepairName, { label: string; what: string; for: readonly string[] }> = {
  trim: { label: 'Trim', what: 'Blanks at both ends of texts go', for: [] },
  fix_mojibake: { label: 'Mend characters', what: 'Wrongly decoded ones: Ã¤ is ä again', for: ['mojibake'] },
  normalise_roles: { label: 'Name roles alike', what: 'One name for each role, whatever its alias', for: [] },
  drop_empty: {
    label: 'Drop empty rows',
    what: 'With a question, an answer or a turn that says nothing',
    for: ['empty_output', 'empty_turn', 'empty_instruction'],
  },
  drop_duplicates: {
    label: 'Drop duplicates',
    what: 'Rows that say the same as an earlier one',
    for: ['duplicate_row', 'normalised_duplicate'],
  },
  drop_invalid: { label: 'Drop rows with errors', what: 'What is left can be trained on', for: [] },
  convert: { label: 'Convert', what: 'Every row in another format', for: [] },
}
const NAMES = Object.keys(REPAIRS) as RepairName[]
const FORMATS: readonly { value: DatasetFormat; label: string }[] = [
  { value: 'openai', label: 'OpenAI messages' },
  { value: 'sharegpt', label: 'ShareGPT' },
  { value: 'alpaca', label: 'Alpaca' },
  { value: 'prompt_completion', label: 'Prompt and completion' },
  { value: 'text', label: 'Plain text' },
]

/** What the report speaks for. */
function advised({ report }: Dataset): Set<RepairName> {
  const kinds = kindsOf(report)
  const codes = kinds.map(({ code }) => code)
  const wanted = NAMES.filter((name) => REPAIRS[name].for.some((code) => codes.includes(code)))
  return new Set([
    'trim',
    ...wanted,
    ...(kinds.some(({ severity }) => severity === 'error') ? ['drop_invalid'] : []),
  ] as RepairName[])
}

export function CleanDialog({ dataset, onClose }: { dataset: Dataset; onClose: () => void }) {
  const [chosen, setChosen] = useState(() => advised(dataset))
  const [format, setFormat] = useState<DatasetFormat>('openai')
  const [result, setResult] = useState<CleanResponse | null>(null)
  const [busy, setBusy] = useState<'try' | 'make' | null>(null)
  const made = result?.dataset ?? null

  const clean = async (dry_run: boolean) => {
    const repairs = NAMES.filter((name) => chosen.has(name))
    const request: CleanInput = { repairs, dry_run, ...(chosen.has('convert') && { format }) }
    setBusy(dry_run ? 'try' : 'make')
    try {
      setResult(await client.peek().datasets.clean(dataset.id, request))
    } catch (error) {
      toastError(error)
    } finally {
      setBusy(null)
    }
  }
  const choose = (name: RepairName, on: boolean) => {
    const next = new Set(chosen)
    if (on) next.add(name)
    else next.delete(name)
    setChosen(next)
    setResult(null)
  }
  return (
    <Dialog
      wide
      title={made ? 'Cleaned' : `Clean ${dataset.name}`}
      onClose={onClose}
      footer={
        made ? (
          <>
            <Button onClick={onClose}>Stay here</Button>
            <Button
              variant="primary"
              onClick={() => {
                onClose()
                navigate(`/data/${made.id}`)
              }}
            >
              Open {made.name}
            </Button>
          </>
        ) : (
          <>
            <Button busy={busy === 'try'} disabled={chosen.size === 0 || busy !== null} onClick={() => clean(true)}>
              See what it does
            </Button>
            <Button
              variant="primary"
              busy={busy === 'make'}
              disabled={chosen.size === 0 || busy !== null}
              onClick={() => clean(false)}
            >
              Make a cleaned data set
            </Button>
          </>
        )
      }
    >
      <div class="stack">
        {!made && (
          <>
            <p class="muted">
              A new data set is made, and this one stays as it is. What the report speaks for is chosen.
            </p>
            <div class="repairs">
              {NAMES.map((name) => (
                <div key={name}>
                  <Checkbox
                    checked={chosen.has(name)}
                    onChange={(on) => choose(name, on)}
                    label={
                      <>
                        <strong>{REPAIRS[name].label}</strong>
                        <span class="muted small repair-what">{REPAIRS[name].what}</span>
                      </>
                    }
                  />
                </div>
              ))}
            </div>
            {chosen.has('convert') && (
              <Field label="To the format">
                {(props) => (
                  <Select
                    {...props}
                    value={format}
                    options={FORMATS}
                    onChange={(next) => {
                      setFormat(next)
                      setResult(null)
                    }}
                  />
                )}
              </Field>
            )}
          </>
        )}
        <div aria-live="polite">{result && <Result result={result} />}</div>
      </div>
    </Dialog>
  )
}

function Result({ result: { dataset, rows_before, rows_after, repairs } }: { result: CleanResponse }) {
  return (
    <div class="stack tight">
      <p class={`notice ${dataset && !dataset.valid ? 'warning' : 'good'}`}>
        {count(rows_before)} rows before, {count(rows_after)} after
        {dataset && (dataset.valid ? '; it can be trained on' : '; it still has errors')}
      </p>
      <div class="table-wrap">
        <table class="table repair-table">
          <caption class="visually-hidden">What each repair does</caption>
          <thead>
            <tr>
              <th scope="col">Repair</th>
              <th scope="col" class="right">
                Changed
              </th>
              <th scope="col" class="right">
                Dropped
              </th>
              <th scope="col">First rows</th>
            </tr>
          </thead>
          <tbody>
            {repairs.map(({ repair, rows_changed, rows_dropped, first_rows }) => (
              <tr key={repair}>
                <td class="name-cell">{REPAIRS[repair].label}</td>
                <td class="right" data-label="Changed">
                  {count(rows_changed)}
                </td>
                <td class="right" data-label="Dropped">
                  {count(rows_dropped)}
                </td>
                <td class="small" data-label="First rows">
                  {first_rows.length === 0 ? (
                    <span class="muted">none</span>
                  ) : (
                    first_rows.slice(0, 3).map(({ sample, what }) => (
                      <div key={sample}>
                        Row {count(sample)}: {what}
                      </div>
                    ))
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  )
}
