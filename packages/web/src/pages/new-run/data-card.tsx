import type { DatasetSummary, ValidateInput } from '@mlx-training/sdk'
import { useRef, useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Choices } from '../../components/choices.tsx'
import { Card } from '../../components/facts.tsx'
import { Field } from '../../components/field.tsx'
import { ErrorState, Loading, Skeleton } from '../../components/states.tsx'
import { Tabs } from '../../components/tabs.tsx'
import { ago, count, counted } from '../../format.ts'
import { useLoad } from '../../live/load.ts'
import { useSettled } from '../../live/settled.ts'
import { DropZone } from '../data/drop-zone.tsx'
import { Mask } from '../data/mask.tsx'
import { Supervision } from '../data/supervision.tsx'

export interface DataCardProps {
  path: string
  error: string | undefined
  /** `typing`: more letters may follow. */
  onPath: (path: string, typing: boolean) => void
  /** What is asked about the data; null: no model or no data yet. */
  check: ValidateInput | null
  onLength: (tokens: number) => void
}

export function DataCard({ path, error, onPath, check, onLength }: DataCardProps) {
  const {
    data,
    error: failed,
    reload,
  } = useLoad((client, signal) => client.datasets.list({ limit: 200 }, { signal }), [])
  const datasets = data?.datasets ?? []
  const chosen = datasets.find(({ id }) => id === path)
  const choose = (to: string) => onPath(to, false)
  return (
    <Card title="2. Data">
      <div class="stack">
        <DropZone
          small
          onUploaded={({ id, valid_rows }) => {
            reload()
            if (valid_rows > 0) choose(id)
          }}
        />
        {failed && !data ? (
          <ErrorState error={failed} onRetry={reload} />
        ) : !data ? (
          <Skeleton lines={3} />
        ) : (
          datasets.length > 0 && (
            <Choices label="Uploaded data sets" choices={datasets.map(choiceOf)} value={path} onChange={choose} />
          )
        )}
        <Field label="Or a file on the server" hint="Its path, in a folder that the server may read" error={error}>
          {(props) => (
            <input
              {...props}
              name="dataset.dataset_path"
              autocomplete="off"
              spellcheck={false}
              placeholder="examples/service_alpaca.json"
              value={chosen ? '' : path}
              onInput={(event) => onPath(event.currentTarget.value.trim(), true)}
              onChange={(event) => choose(event.currentTarget.value.trim())}
            />
          )}
        </Field>
        {check ? (
          <Checked check={check} onLength={onLength} />
        ) : (
          chosen &&
          !chosen.valid && (
            <p class="notice bad">
              It has errors, and nothing is trained on part of a file.{' '}
              <a href={`/data/${chosen.id}`}>Look at its rows, and clean it</a>
            </p>
          )
        )}
      </div>
    </Card>
  )
}

function choiceOf({ id, name, format, rows, valid_rows, valid, created_at }: DatasetSummary) {
  const usable = valid_rows === rows ? counted(rows, 'row') : `${count(valid_rows)} of ${counted(rows, 'row')} usable`
  const kept = `${usable} · ${format ?? 'no format'} · ${ago(created_at)}`
  const disabled = valid_rows === 0
  return {
    value: id,
    title: name,
    disabled,
    note: disabled ? (
      <>
        {kept}. Nothing could be learned of it: <a href={`/data/${id}`}>what is wrong</a>
      </>
    ) : (
      kept
    ),
    aside: valid ? undefined : (
      <Badge tone="bad">{valid_rows < rows ? `${counted(rows - valid_rows, 'row')} with errors` : 'has errors'}</Badge>
    ),
  }
}

/** The report and the mask of the chosen data with the chosen model. */
function Checked({ check, onLength }: { check: ValidateInput; onLength: (tokens: number) => void }) {
  const settled = useSettled(check)
  const { data, error, loading, reload } = useLoad(
    (client, signal) => client.datasets.validate(settled, { signal }),
    [settled],
  )
  const [shown, setShown] = useState('report')
  const [sample, setSample] = useState(0)
  const box = useRef<HTMLDivElement>(null)
  const toRow = (row: number) => {
    setSample(row)
    setShown('mask')
    box.current?.scrollIntoView({ block: 'nearest' })
  }
  if (error) return <ErrorState error={error} onRetry={reload} />
  if (!data) return <Loading label="Counting the tokens" />
  if (!data.supervision)
    return (
      <div class="notice bad">
        <p>This file can’t be trained on as it is:</p>
        <ul>
          {data.errors.slice(0, 5).map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
        {data.errors.length > 5 && <p>and {count(data.errors.length - 5)} more</p>}
        {check.file_path.startsWith('ds_') && (
          <p>
            <a href={`/data/${check.file_path}`}>Look at its rows, and clean it</a>
          </p>
        )}
      </div>
    )
  const { batch_size: _, validation_path: __, model_name = '', ...of } = settled
  const leaks = data.validation?.leakage.rows ?? 0
  return (
    <div class={loading ? 'stale' : undefined} aria-busy={loading} ref={box}>
      {leaks > 0 && (
        <p class="notice warning">
          {count(leaks)} of the held-out rows are among those to train on: their loss says little.
        </p>
      )}
      <Tabs
        label="What training makes of the data"
        selected={shown}
        onSelect={setShown}
        tabs={[
          {
            id: 'report',
            label: 'Supervision',
            content: () => <Supervision report={data.supervision as never} onRow={toRow} onLength={onLength} />,
          },
          {
            id: 'mask',
            label: 'Mask of a row',
            content: () => (
              <Mask of={{ ...of, model_name }} sample={sample} total={data.total_samples} onSample={setSample} />
            ),
          },
        ]}
      />
    </div>
  )
}
