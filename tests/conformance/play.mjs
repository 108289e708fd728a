// Plays the suite through a proxy and prints one sorted line per test: its id, its kind, its verdict.
//   node play.mjs PACKAGE BASE DETAILS [ID...]
// DETAILS is a file for what the suite says of every test that is no pass. With IDs only those tests are played, and every message
// of theirs is shown.
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [home, base, details, ...wanted] = process.argv.slice(2)
const load = name => import(pathToFileURL(path.join(home, name)))
const fetch = createRequire(path.join(home, 'package.json'))('node-fetch')
const { runTests, getResults } = await load('client/runner.mjs')
const display = await load('lib/display.mjs')
const suites = [...(await load('tests/index.mjs')).default, (await load('tests/surrogate-control.mjs')).default]

// By the sign that the suite gives a verdict.
const verdicts = {
  '✅': 'pass', '⛔️': 'fail', '⚠️': 'not-optimal', Y: 'yes', N: 'no', '🔹': 'setup', '⁉️': 'harness', '⚪️': 'depends', '↻': 'retry', '-': 'untested'
}
const tests = suites.flatMap(suite => suite.tests)
  .filter(test => test.browser_only !== true)
  .filter(test => wanted.length === 0 || wanted.includes(test.id))
tests.forEach(test => { test.dump = wanted.length > 0 })

await runTests([{ name: 'all', id: 'all', tests }], fetch, false, base)
const results = getResults()

const lines = []
const told = []
for (const id of tests.map(test => test.id).sort()) {
  const test = display.testLookup(suites, id)
  const verdict = verdicts[display.determineTestResult(suites, id, results, wanted.length === 0)[2]]
  if (verdict === undefined) throw new Error(`an unknown verdict on ${id}`)
  lines.push(`${id} ${test.kind ?? 'required'} ${verdict}`)
  if (results[id] !== true) told.push(`${id} ${test.kind ?? 'required'} ${verdict}: ${results[id]?.join(': ')} (${test.name})`)
}
fs.writeFileSync(details, told.map(line => line + '\n').join(''))
console.log(lines.join('\n'))
