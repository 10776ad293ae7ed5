import type { AcceptedRequest, StatusResponse } from '@mlx-training/sdk'
import { Code } from '../../components/code-tabs.tsx'
import { Card } from '../../components/facts.tsx'
import { Field, Select } from '../../components/field.tsx'
import { ErrorState, Skeleton } from '../../components/states.tsx'
import { Table } from '../../components/table.tsx'
import { flatten, valueText } from '../../config.ts'
import { jobs, useJobs } from '../../live/jobs.ts'
import { type Loaded, useLoad } from '../../live/load.ts'
import { query, setQuery } from '../../router.ts'

/** Every value that it ran with, beside those of another experiment where one is chosen. */
export function Configuration({ status, own }: { status: StatusResponse; own: Loaded<AcceptedRequest> }) {
  useJobs()
  const name = status.experiment_name
  const other = query.value.get('with') ?? ''
  const others = useLoad(
    (client, signal) => (other ? client.train.request(other, { signal }) : Promise.resolve(null)),
    [other],
  )
  if (own.error) return <ErrorState error={own.error} onRetry={own.reload} />
  if (!own.data)
    return (
      <Card>
        <Skeleton lines={8} />
      </Card>
    )
  const mine = flatten(own.data)
  const theirs = others.data ? flatten(others.data) : null
  const names = [...new Set([...mine.keys(), ...(theirs?.keys() ?? [])])]
  const rows = names.map((field) => {
    const [a, b] = [valueText(mine.get(field)), theirs ? valueText(theirs.get(field)) : null]
    return { field, a, b, changed: b !== null && a !== b }
  })
  const shown = theirs ? rows.toSorted((x, y) => Number(y.changed) - Number(x.changed)) : rows
  const choices = (jobs.value ?? []).map((job) => job.experiment_name).filter((one) => one !== name)
  return (
    <div class="stack">
      <Card
        title={theirs ? differenceTitle(rows.filter(({ changed }) => changed).length, other) : 'Configuration'}
        actions={
          choices.length > 0 && (
            <Field label="Compare with" quiet>
              {(props) => (
                <Select
                  {...props}
                  value={other}
                  options={[
                    { value: '', label: 'Compare with …' },
                    ...choices.map((one) => ({ value: one, label: one })),
                  ]}
                  onChange={(chosen) => setQuery({ with: chosen })}
                />
              )}
            </Field>
          )
        }
        flush
      >
        {others.error && <p class="notice bad">{others.error.message}</p>}
        <Table
          caption="Configuration"
          rowKey={({ field }) => field}
          rows={shown}
          wrapping
          columns={[
            {
              id: 'field',
              label: 'Parameter',
              main: true,
              cell: ({ field }) => <code class="parameter">{field}</code>,
            },
            {
              id: 'mine',
              label: name,
              cell: ({ a, changed }) => <span class={changed ? 'changed' : undefined}>{a}</span>,
            },
            ...(theirs
              ? [
                  {
                    id: 'theirs',
                    label: other,
                    cell: ({ b, changed }: (typeof rows)[number]) => (
                      <span class={changed ? 'changed' : 'muted'}>{b}</span>
                    ),
                  },
                ]
              : []),
          ]}
        />
      </Card>
      <Card title="As a request">
        <Code code={JSON.stringify(own.data, null, 2)} label="Copy the request" />
      </Card>
    </div>
  )
}

const differenceTitle = (count: number, other: string) =>
  count === 0
    ? `The same as ${other}`
    : `${count} ${count === 1 ? 'parameter differs' : 'parameters differ'} from ${other}`
