import { Card } from '../../components/facts.tsx'
import { EmptyState, ErrorState, Skeleton } from '../../components/states.tsx'
import { Table } from '../../components/table.tsx'
import { differences } from '../../config.ts'
import { useLoad } from '../../live/load.ts'

/** In what they were asked for differently. */
export function Differences({ names }: { names: readonly string[] }) {
  const requests = useLoad(
    (client, signal) => Promise.all(names.map((name) => client.train.request(name, { signal }))),
    [names],
  )
  if (requests.error) return <ErrorState error={requests.error} onRetry={requests.reload} />
  const rows = requests.data && requests.data.length === names.length ? differences(requests.data) : null
  return (
    <Card title="Configuration" flush>
      {rows === null ? (
        <div class="padded">
          <Skeleton />
        </div>
      ) : rows.length === 0 ? (
        <EmptyState
          icon="check"
          title={names.length === 1 ? 'Add an experiment to compare with' : 'All of them have the same configuration'}
        />
      ) : (
        <Table
          caption="Parameters that differ"
          rowKey={({ name }) => name}
          rows={rows}
          wrapping
          columns={[
            { id: 'name', label: 'Parameter', main: true, cell: ({ name }) => <code class="parameter">{name}</code> },
            ...names.map((name, i) => ({
              id: name,
              label: name,
              cell: ({ values }: (typeof rows)[number]) => values[i],
            })),
          ]}
        />
      )}
    </Card>
  )
}
