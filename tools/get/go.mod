module github.com/waymark-cd/waymark/tools/get

go 1.26.0
