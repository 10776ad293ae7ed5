/** One data set: what was found in it, its rows, what a model makes of them, and what can be done with it. */
import '../styles/data.css'
import './dataset/dataset.css'
import type { Dataset } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Badge } from '../components/badge.tsx'
import { Button } from '../components/button.tsx'
import { CopyButton } from '../components/copy.tsx'
import { confirm } from '../components/dialog.tsx'
import { Card } from '../components/facts.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, ErrorState, Skeleton } from '../components/states.tsx'
import { Tabs } from '../components/tabs.tsx'
import { toast, toastError } from '../components/toast.tsx'
import { ago, bytes, count, counted } from '../format.ts'
import { useLoad } from '../live/load.ts'
import type { PageProps } from '../pages.ts'
import { navigate, query, setQuery } from '../router.ts'
import { saveFile } from '../save-file.ts'
import { can, client } from '../session.ts'
import { useTitle } from '../title.ts'
import { CleanDialog } from './dataset/clean.tsx'
import { Report } from './dataset/report.tsx'
import { Rows } from './dataset/rows.tsx'
import { SplitDialog } from './dataset/split.tsx'
import { Tokens } from './dataset/tokens.tsx'

const BACK = { label: 'Data sets', href: '/data' }

export default function DatasetPage({ params: { id = '' } }: PageProps) {
  const { data, error, reload } = useLoad((api, signal) => api.datasets.get(id, { signal }), [id])
  useTitle(data?.name ?? 'Data set')
  if (error && !data) {
    const gone = 'status' in error && (error.status === 404 || error.status === 422)
    return (
      <>
        <PageHead title={gone ? 'No such data set' : 'Data set'} back={BACK} />
        {gone ? (
          <EmptyState
            icon="table"
            title="It is not here"
            text={`No data set has the id ${id}. It may have been deleted; experiments that used it keep their copy.`}
            action={{ label: 'To the data sets', href: '/data' }}
          />
        ) : (
          <ErrorState error={error} onRetry={reload} />
        )}
      </>
    )
  }
  if (!data)
    return (
      <>
        <PageHead title="Data set" back={BACK} />
        <Skeleton lines={8} />
      </>
    )
  return <Shown dataset={data} />
}

function Shown({ dataset }: { dataset: Dataset }) {
  const { id, name, valid, format, container, compressed, rows, created_at, origin } = dataset
  const asked = query.value
  const tab = asked.get('tab') ?? 'report'
  const row = rowOf(asked.get('row'))
  const toRow = (sample: number, to: 'rows' | 'tokens' = 'rows') => setQuery({ tab: to, row: String(sample) })
  return (
    <>
      <PageHead
        title={name}
        back={BACK}
        lead={
          <>
            <Badge tone={valid ? 'good' : 'bad'}>{valid ? 'valid' : 'has errors'}</Badge>
            <span>{counted(rows, 'row')}</span>
            <span>{format ?? 'no format'}</span>
            <span>
              {container}
              {compressed && '.gz'}, {bytes(dataset.bytes)}
            </span>
            <span>{ago(created_at)}</span>
            {origin && (
              <span>
                {origin.operation === 'clean' ? 'cleaned from' : `${origin.part} part of`}{' '}
                <a href={`/data/${origin.dataset_id}`}>another one</a>
              </span>
            )}
            <span class="id">
              <code>{id}</code>
              <CopyButton text={id} label="Copy the id" />
            </span>
          </>
        }
        actions={<Actions dataset={dataset} />}
      />
      <Tabs
        label="About this data set"
        selected={tab}
        onSelect={(to) => setQuery({ tab: to === 'report' ? null : to })}
        tabs={[
          {
            id: 'report',
            label: 'Report',
            content: () => (
              <Report report={dataset.report} onRow={toRow}>
                <UsedBy experiments={dataset.experiments} />
              </Report>
            ),
          },
          {
            id: 'rows',
            label: 'Rows',
            content: () => (
              <Rows dataset={dataset} row={row} onMask={valid ? (sample) => toRow(sample, 'tokens') : null} />
            ),
          },
          {
            id: 'tokens',
            label: 'Tokens and mask',
            content: () => <Tokens dataset={dataset} row={row ?? 0} onRow={(sample) => toRow(sample, 'tokens')} />,
          },
        ]}
      />
    </>
  )
}

function UsedBy({ experiments }: Pick<Dataset, 'experiments'>) {
  return (
    <Card title="Experiments that used it">
      {experiments.length === 0 ? (
        <p class="muted">None yet.</p>
      ) : (
        <ul class="plain">
          {experiments.map((name) => (
            <li key={name}>
              <a href={`/experiments/${encodeURIComponent(name)}`}>{name}</a>
            </li>
          ))}
        </ul>
      )}
    </Card>
  )
}

function rowOf(text: string | null): number | null {
  const row = Number(text)
  return text !== null && Number.isSafeInteger(row) && row >= 0 ? row : null
}

function Actions({ dataset }: { dataset: Dataset }) {
  const { id, name, valid, rows } = dataset
  const [open, setOpen] = useState<'clean' | 'split' | null>(null)
  const [busy, setBusy] = useState(false)
  const close = () => setOpen(null)

  const download = async () => {
    setBusy(true)
    try {
      await saveFile(await client.peek().datasets.content(id), name)
    } catch (error) {
      toastError(error)
    } finally {
      setBusy(false)
    }
  }
  const remove = async () => {
    const used = dataset.experiments.length
    const yes = await confirm({
      title: `Delete ${name}?`,
      text:
        used > 0
          ? `${used === 1 ? 'One experiment has' : `${count(used)} experiments have`} used it: those that have ended keep their copy. The file and its report are gone then.`
          : 'The file and its report are gone then.',
      action: 'Delete',
      danger: true,
    })
    if (!yes) return
    try {
      await client.peek().datasets.delete(id)
      toast(`${name} is deleted`)
      navigate('/data')
    } catch (error) {
      toastError(error)
    }
  }
  const may = can('train')
  return (
    <>
      {may && (
        <>
          {valid && (
            <Button variant="primary" icon="play" href={`/new?dataset=${id}`}>
              Train on it
            </Button>
          )}
          {rows > 0 && (
            <Button variant={valid ? 'secondary' : 'primary'} icon="check" onClick={() => setOpen('clean')}>
              Clean
            </Button>
          )}
          {valid && (
            <Button icon="branch" onClick={() => setOpen('split')}>
              Split
            </Button>
          )}
        </>
      )}
      <Button variant="ghost" icon="download" label="Download the file" busy={busy} onClick={download} />
      {may && <Button variant="ghost" icon="trash" label="Delete the data set" onClick={remove} />}
      {open === 'clean' && <CleanDialog dataset={dataset} onClose={close} />}
      {open === 'split' && <SplitDialog dataset={dataset} onClose={close} />}
    </>
  )
}
