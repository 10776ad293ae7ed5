/** The report of the rows that an experiment learns from, as their file is now. */
import type { AcceptedRequest } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Card } from '../../components/facts.tsx'
import { ErrorState, Loading } from '../../components/states.tsx'
import { useLoad } from '../../live/load.ts'
import { navigate } from '../../router.ts'
import { Report } from '../dataset/report.tsx'

export const UPLOADED = /^ds_/

export function DataReport({ of }: { of: AcceptedRequest['dataset'] }) {
  return UPLOADED.test(of.dataset_path) ? <OfUploaded id={of.dataset_path} /> : <OfFile of={of} key={of.dataset_path} />
}

/** Made when it was uploaded. */
function OfUploaded({ id }: { id: string }) {
  const { data, error, reload } = useLoad((client, signal) => client.datasets.get(id, { signal }), [id])
  if (data)
    return (
      <Report
        report={data.report}
        onRow={(sample) => navigate(`/data/${encodeURIComponent(id)}?tab=rows&row=${sample}`)}
      />
    )
  if (!error) return <Loading label="Loading the report" />
  if ('status' in error && error.status === 404)
    return (
      <Card title="Report">
        <p class="muted">The data set was deleted, and its report with it. The experiment keeps a copy of its rows.</p>
      </Card>
    )
  return <ErrorState error={error} onRetry={reload} />
}

/** Made when asked for: all of the file is read for it, which may be gigabytes. */
function OfFile({ of }: { of: AcceptedRequest['dataset'] }) {
  const [asked, setAsked] = useState(false)
  if (asked) return <Checked of={of} />
  return (
    <Card title="Report">
      <div class="row spread">
        <span class="muted">What is in the file, and what is worth a look: it is read again for this.</span>
        <Button icon="check" onClick={() => setAsked(true)}>
          Check the file
        </Button>
      </div>
    </Card>
  )
}

function Checked({ of: { dataset_path, dataset_format, columns, tags } }: { of: AcceptedRequest['dataset'] }) {
  const request = {
    file_path: dataset_path,
    ...(dataset_format && { dataset_format }),
    ...(columns && { columns }),
    ...(tags && { tags }),
  }
  const { data, error, reload } = useLoad((client, signal) => client.datasets.validate(request, { signal }), [request])
  if (error) return <ErrorState error={error} onRetry={reload} />
  return data ? <Report report={data} /> : <Loading label="Checking the file" />
}
