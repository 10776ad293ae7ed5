import { CopyButton } from '../../components/copy.tsx'
import { Card, Facts } from '../../components/facts.tsx'

/** Where programs find it. */
export function Addresses() {
  const { origin } = window.location
  return (
    <Card title="Addresses">
      <Facts
        facts={[
          ['API', <Address key="api" url={origin} label="Copy the API’s address" />],
          ['OpenAI’s SDKs', <Address key="v1" url={`${origin}/v1`} label="Copy the address for OpenAI’s SDKs" />],
          [
            'Documentation',
            <a key="docs" href="/docs">
              {origin}/docs
            </a>,
          ],
          ['Metrics', <Address key="metrics" url={`${origin}/metrics`} label="Copy the address of the metrics" />],
        ]}
      />
    </Card>
  )
}

function Address({ url, label }: { url: string; label: string }) {
  return (
    <span class="server-address">
      <code>{url}</code>
      <CopyButton text={url} label={label} />
    </span>
  )
}
