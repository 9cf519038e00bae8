std = "lua54"
max_line_length = 80
codes = true
-- a numeric-for or unpacked value that only names a place
ignore = { "212/_.*", "213/_.*", "212/self" }
exclude_files = { "build*" }

files["spec"] = { std = "+busted" }
files["lua"] = { max_cyclomatic_complexity = 15 }
