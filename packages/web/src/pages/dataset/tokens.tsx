/** What training with a model makes of the rows: its tokens, and the mask of each row. */
import type { Dataset, ModelInfo } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Card } from '../../components/facts.tsx'
import { Field, Select } from '../../components/field.tsx'
import { EmptyState, ErrorState, Loading, Skeleton } from '../../components/states.tsx'
import { useLoad } from '../../live/load.ts'
import { useSettled } from '../../live/settled.ts'
import { Mask } from '../data/mask.tsx'
import { Supervision } from '../data/supervision.tsx'

export interface TokensProps {
  dataset: Dataset
  row: number
  onRow: (sample: number) => void
}

export function Tokens(props: TokensProps) {
  const { data, error, reload } = useLoad((client, signal) => client.models({ signal }), [])
  if (!props.dataset.valid)
    return (
      <Card>
        <EmptyState
          icon="warning"
          title="It has errors"
          text="Tokens are counted of a file that can be trained on. Clean this one: what is left of it is a new data set."
        />
      </Card>
    )
  if (error && !data) return <ErrorState error={error} onRetry={reload} />
  if (!data) return <Skeleton lines={5} />
  if (data.models.length === 0)
    return (
      <Card>
        <EmptyState
          title="No model is here yet"
          text="Tokens depend on a model: start a run with one of the hub, or put one into the server’s model folders."
        />
      </Card>
    )
  return <WithModels {...props} models={data.models} />
}

const LOSS = [
  { value: 'completions', label: 'All answers' },
  { value: 'last_completion', label: 'The last answer' },
  { value: 'all', label: 'Every token' },
] as const
const TRUNCATION = [
  { value: 'truncate', label: 'Cut' },
  { value: 'drop', label: 'Left out' },
  { value: 'error', label: 'An error' },
] as const

function WithModels({ dataset, row, onRow, models }: TokensProps & { models: readonly ModelInfo[] }) {
  const [model, setModel] = useState(models[0]?.id ?? '')
  const [length, setLength] = useState('2048')
  const [lossOn, setLossOn] = useState<(typeof LOSS)[number]['value']>('completions')
  const [truncation, setTruncation] = useState<(typeof TRUNCATION)[number]['value']>('truncate')
  const tokens = Number.parseInt(length, 10)
  const wrong = tokens >= 8 && tokens <= 1_048_576 ? null : 'A number from 8 to 1,048,576'
  const of = useSettled({
    file_path: dataset.id,
    model_name: model,
    max_seq_length: wrong ? 2048 : tokens,
    loss_on: lossOn,
    truncation,
  })
  const { data, error, loading, reload } = useLoad((client, signal) => client.datasets.validate(of, { signal }), [of])
  return (
    <div class="stack">
      <Card>
        <div class="token-settings">
          <Field label="Model">
            {(props) => (
              <Select
                {...props}
                value={model}
                onChange={setModel}
                options={models.map(({ id }) => ({ value: id, label: id }))}
              />
            )}
          </Field>
          <Field label="Longest row, in tokens" error={wrong}>
            {(props) => (
              <input
                {...props}
                inputMode="numeric"
                value={length}
                onInput={(event) => setLength(event.currentTarget.value)}
              />
            )}
          </Field>
          <Field label="Rows that are too long">
            {(props) => <Select {...props} value={truncation} options={TRUNCATION} onChange={setTruncation} />}
          </Field>
          <Field label="Learn from">
            {(props) => <Select {...props} value={lossOn} options={LOSS} onChange={setLossOn} />}
          </Field>
        </div>
      </Card>
      <Card title={`Mask of row ${row}`}>
        <Mask of={of} sample={row} total={dataset.rows} onSample={onRow} />
      </Card>
      <Card title="All rows">
        {error ? (
          <ErrorState error={error} onRetry={reload} />
        ) : !data ? (
          <Loading label="Counting the tokens" />
        ) : (
          data.supervision && (
            <div class={loading ? 'stale' : undefined} aria-busy={loading}>
              <Supervision report={data.supervision} onRow={onRow} onLength={(to) => setLength(String(to))} />
            </div>
          )
        )}
      </Card>
    </div>
  )
}
