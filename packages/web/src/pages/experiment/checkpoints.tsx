import type { Checkpoint, StatusResponse } from '@mlx-training/sdk'
import { Badge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { CopyButton } from '../../components/copy.tsx'
import { Card } from '../../components/facts.tsx'
import { EmptyState } from '../../components/states.tsx'
import { type Column, Table } from '../../components/table.tsx'
import { ago, count, number } from '../../format.ts'
import { can } from '../../session.ts'
import { Download } from './download.tsx'

export function Checkpoints({ status }: { status: StatusResponse }) {
  const { checkpoints, experiment_name: name, output_dir: folder } = status
  if (checkpoints.length === 0)
    return (
      <Card>
        <EmptyState
          icon="branch"
          title="No checkpoint yet"
          text="The first is written after a minute at most, and whenever the run is paused or stopped."
        />
      </Card>
    )
  return (
    <div class="stack">
      <Card title="Checkpoints" flush>
        <Table
          caption="Checkpoints"
          columns={columnsOf(name)}
          rows={checkpoints.toReversed()}
          rowKey={({ step }) => String(step)}
        />
      </Card>
      <Card title="Files">
        <p class="muted">
          Adapter and checkpoints are in the server’s folder below, in mlx-lm’s format: <code>mlx_lm.generate</code>{' '}
          takes it as <code>--adapter-path</code>.
        </p>
        <p class="path">
          <code>{folder}</code>
          <CopyButton text={folder} label="Copy the path" />
        </p>
        <Download name={name} />
      </Card>
    </div>
  )
}

const columnsOf = (name: string): Column<Checkpoint>[] => [
  {
    id: 'step',
    label: 'After step',
    main: true,
    cell: ({ step, best }) => (
      <span class="row">
        {count(step)} {best && <Badge tone="good">best</Badge>}
      </span>
    ),
  },
  { id: 'loss', label: 'Loss', align: 'right', cell: ({ loss }) => number(loss) },
  {
    id: 'validation',
    label: 'Validation loss',
    align: 'right',
    cell: (checkpoint) => number(checkpoint.validation_loss),
  },
  { id: 'at', label: 'Written', cell: ({ created_at }) => ago(created_at) },
  {
    id: 'model',
    label: 'Model name',
    cell: ({ model }) => (
      <span class="path">
        <code>{model}</code>
        <CopyButton text={model} label={`Copy ${model}`} />
      </span>
    ),
  },
  {
    id: 'actions',
    label: 'Actions',
    cell: ({ model, step }) => (
      <span class="actions">
        {can('generate') && (
          <Button size="small" icon="chat" href={`/playground?model=${encodeURIComponent(model)}`}>
            Try
          </Button>
        )}
        {can('train') && (
          <Button
            size="small"
            icon="branch"
            href={`/new?from=${encodeURIComponent(name)}&resume_from=${encodeURIComponent(`${name}@step-${step}`)}`}
          >
            Continue from
          </Button>
        )}
        <Download name={name} step={step} />
      </span>
    ),
  },
]
